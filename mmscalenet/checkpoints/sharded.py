"""Checkpoints as transformers saves them: a folder, and an index of the files that the tensors are spread over."""
import json
from collections.abc import Callable
from pathlib import Path

from .errors import CheckpointError, one_line, some

INDEX = '.index.json'
#: What a folder is searched for, in transformers' order.
NAMES = ('model.safetensors', f'model.safetensors{INDEX}', 'pytorch_model.bin', f'pytorch_model.bin{INDEX}')


def file_in(folder: Path) -> Path:
    """The checkpoint in a folder.

    Raises:
        CheckpointError: If there is none under a usual name.
    """
    found = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if found is None:
        raise CheckpointError(f'{folder}: Is a directory, and holds none of {", ".join(NAMES)}; give the file')
    return found


def read_index(path: Path, name: str) -> dict[str, str]:
    """The tensors that an index lists -> the file of each, beside the index.

    Raises:
        CheckpointError: If it is no index, or names a file elsewhere.
    """
    try:
        places = json.loads(path.read_text(encoding='utf-8'))['weight_map']
        files = {*places.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f'{name}: damaged, or no index of transformers, which lists under "weight_map" the file '
                              f'of every tensor ({type(error).__name__}: {one_line(error)})') from None
    for file in files:
        is_beside = isinstance(file, str) and file and file == Path(file).name and '\\' not in file
        if not is_beside or file.endswith(INDEX):
            raise CheckpointError(f'{name}: refused, as it names {file!r}, which is no checkpoint beside it')
    return places


def read_shards(places: dict[str, str], name: str, read: Callable[[str], dict]) -> dict:
    """All tensors that an index lists.

    Args:
        places (dict[str, str]): What :func:`read_index` gives.
        name (str): Path or URL of the index.
        read (Callable): From the name of a file beside it to what that holds.

    Raises:
        CheckpointError: If a file is missing, or does not hold what the index lists of it.
    """
    result = {}
    for file in dict.fromkeys(places.values()):
        content = read(file)
        listed = {key for key, place in places.items() if place == file}
        if wrong := listed ^ content.keys():
            raise CheckpointError(f'{name}: {file} is not the one that it lists: they differ in {some(sorted(wrong))}; '
                                  'download or copy the index and its files again')
        result.update(content)
    return result
