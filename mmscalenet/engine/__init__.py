"""Running: what the entry scripts in tools/ add to mmengine's runner."""
from .cli import add_common_arguments, backbone_of, full_type, library_of, load_config, read_config, require, short_type
from .depth import add_depth_argument, use_depth
from .distributed import end_processes
from .endings import name_endings
from .errors import ResumeError, UsageError, one_line_errors
from .files import (
    WholeFileBackend,
    check_checkpoint,
    check_folder,
    is_whole,
    remove_temporary,
    whole_file,
    whole_folder,
)
from .growing import grow_checkpoint
from .hooks import WholeCheckpointHook
from .metrics import DumpSegResults
from .missing_files import name_missing_files
from .optimizers import CPUAmpOptimWrapper
from .resume import checkpoint_folder, last_whole_checkpoint
from .runner import build_runner
from .work_dir import one_run

__all__ = [
    'CPUAmpOptimWrapper', 'DumpSegResults', 'ResumeError', 'UsageError', 'WholeCheckpointHook', 'WholeFileBackend',
    'add_common_arguments', 'add_depth_argument', 'backbone_of', 'build_runner', 'check_checkpoint', 'check_folder',
    'checkpoint_folder', 'end_processes', 'full_type', 'grow_checkpoint', 'is_whole', 'last_whole_checkpoint',
    'library_of', 'load_config', 'name_endings', 'name_missing_files', 'one_line_errors',
    'one_run', 'read_config', 'remove_temporary', 'require', 'short_type', 'use_depth', 'whole_file', 'whole_folder'
]
