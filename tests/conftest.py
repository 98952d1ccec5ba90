import os
import sys
from pathlib import Path

# One thread: the models are tiny, and a process that is forked from one with OpenMP threads hangs in the next product.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest  # noqa: E402
import torch  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

torch.set_num_threads(1)
for folder in ('', 'test_configs'):  # helper modules of the tests
    sys.path.insert(0, str(Path(__file__).parent / folder))

pytest_plugins = ['tiny_configs', 'entry_scripts']


@pytest.fixture(autouse=True)
def _same_start():
    """No test sees the random numbers or the default scope of the one before."""
    torch.manual_seed(0)
    DefaultScope._instance_dict.clear()
