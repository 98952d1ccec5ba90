"""Where an interrupted training goes on."""
import re
from pathlib import Path

from .files import is_whole


def checkpoint_folder(work_dir: str | Path, hook: dict | None = None) -> Path:
    """Where the checkpoint hook with config ``hook`` writes: the work directory, or one of its name elsewhere."""
    work_dir = Path(work_dir)
    return Path(hook['out_dir']) / work_dir.name if hook and hook.get('out_dir') else work_dir


def last_whole_checkpoint(work_dir: str, hook: dict | None = None) -> tuple[str | None, list[str]]:
    """The newest complete checkpoint of a work directory.

    ``last_checkpoint`` is a hint only: a kill may fall between a checkpoint and its mention there, and the file named
    may have been lost or cut short since.

    Args:
        work_dir (str): The work directory.
        hook (dict, optional): Config of the checkpoint hook, which may name another folder (``out_dir``) or other
            file names. Defaults to None.

    Returns:
        tuple[str | None, list[str]]: The checkpoint, None if there is none, and the newer ones that are damaged.
    """
    folder, work_dir, hook = checkpoint_folder(work_dir, hook), Path(work_dir), hook or {}
    template = hook.get('filename_tmpl') or ('epoch_{}.pth' if hook.get('by_epoch', True) else 'iter_{}.pth')
    pattern = re.compile(re.sub(r'\\\{.*?\\\}', r'\\d+', re.escape(template)))  # {} or {:03d}

    age = {path: path.stat().st_mtime_ns for path in folder.glob('*') if pattern.fullmatch(path.name)}
    pointer = work_dir / 'last_checkpoint'
    if pointer.is_file():
        named = Path(pointer.read_text().strip())
        # the work directory may have been moved, and another be where it was
        own = folder / named.name
        if own.is_file() and not (named.is_file() and own.samefile(named)):
            named = own
        if named.is_file():
            # Written after what it names; holds even where a copy lost the files' own times.
            age[named] = max(age.get(named, 0), pointer.stat().st_mtime_ns)

    damaged = []
    for path in sorted(age, key=lambda path: (age[path], path.name), reverse=True):
        if is_whole(path):
            return str(path), damaged
        damaged.append(str(path))
    return None, damaged
