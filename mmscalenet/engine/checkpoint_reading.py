"""mmengine's loader of checkpoints, kept from running what stands in them."""
from mmengine.runner import CheckpointLoader

from mmscalenet.checkpoints import read_checkpoint
from mmscalenet.checkpoints.safe_pickle import Inert


def read_safely(trusted: bool = False) -> None:
    """Have mmengine read local files and URLs as :func:`mmscalenet.checkpoints.read_checkpoint` does.

    So ``load_from``, resuming, ``init_cfg=dict(type='Pretrained')`` of any module and tools/test.py refuse a file that
    would run code; mmengine itself would run it. Its schemes with names of models ('torchvision://', 'openmmlab://')
    stay as they are: their addresses stand in the libraries.

    Args:
        trusted (bool): Whether checkpoints may run code all the same. Defaults to False.
    """

    def load_from_restricted(filename: str, map_location: object = None) -> dict:
        # read to the CPU, whatever map_location says: what loads the weights copies them to where it needs them
        return read_run(filename, trusted)

    CheckpointLoader.register_scheme(('', 'http://', 'https://'), load_from_restricted, force=True)


def read_run(path: str, trusted: bool = False) -> dict:
    """What a runner's checkpoint holds, without what could not be rebuilt safely.

    Args:
        path (str): Path or URL.
        trusted (bool): Whether the file may run code. Defaults to False.

    Raises:
        CheckpointError: If it cannot be read, or would run code.
    """
    checkpoint = read_checkpoint(path, trusted)
    if not trusted:
        if isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)  # runs as Python when mmengine resumes; its runners write 'cfg'
        for name in ('message_hub', 'param_schedulers'):
            _drop_placeholders(checkpoint.get(name))
    return checkpoint


def _drop_placeholders(value: object, depth: int = 3) -> None:
    """Leave out what could not be rebuilt, so that a resumed run keeps what it made from its config."""
    if isinstance(value, dict):
        for key in [key for key, entry in value.items() if isinstance(entry, Inert)]:
            del value[key]
    if depth and isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            _drop_placeholders(entry, depth - 1)
