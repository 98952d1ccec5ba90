"""Put Fashion-MNIST where mmpretrain's ``FashionMNIST`` dataset reads it.

70,000 grey 28x28 images of ten kinds of clothes, MIT licence, https://github.com/zalandoresearch/fashion-mnist. The
files are taken from the first of these that has them, whole and unaltered:

1. the folder given as ``--source`` (files plain or ``.gz``);
2. ``/usr/share/datasets/fashion-mnist``, where the Debian and Ubuntu package puts them;
3. the package ``dataset-fashion-mnist``, fetched and unpacked into a temporary folder: nothing is installed and root is
   not needed;
4. the official download.

The output folder appears whole or not at all, and a repeated run only checks it.
"""
import argparse
import gzip
import hashlib
import shutil
import subprocess
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

#: Unpacked file -> bytes, md5. Whatever packed it, these are the bytes inside the official ``.gz``.
FILES = {
    'train-images-idx3-ubyte': (47040016, 'f4a8712d7a061bf5bd6d2ca38dc4d50a'),
    'train-labels-idx1-ubyte': (60008, '9018921c3c673c538a1fc5bad174d6f9'),
    't10k-images-idx3-ubyte': (7840016, '8181f5470baa50b63fa0f6fddb340f0a'),
    't10k-labels-idx1-ubyte': (10008, '15d484375f8d13e6eb1aabb0c3f46965'),
}
SYSTEM_FOLDER = Path('/usr/share/datasets/fashion-mnist')
PACKAGE = 'dataset-fashion-mnist'
URL = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/'


def read(folder: Path, name: str) -> bytes:
    """Reads one file of the data set, packed or plain.

    Raises:
        FileNotFoundError: If the folder has it in neither form.
        ValueError: If its content is not that of the official file.
    """
    plain, packed = folder / name, folder / f'{name}.gz'
    path = plain if plain.is_file() else packed
    if not path.is_file():
        raise FileNotFoundError(f'{folder} has neither {name} nor {name}.gz')
    try:
        data = path.read_bytes() if path is plain else gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    size, md5 = FILES[name]
    if len(data) != size or hashlib.md5(data).hexdigest() != md5:
        raise ValueError(f'{path} is not the official file: {len(data)} bytes unpacked, md5 '
                         f'{hashlib.md5(data).hexdigest()}; expected {size} bytes, md5 {md5}')
    return data


def fetch_package(folder: Path) -> Path:
    """Fetches and unpacks the Debian package inside ``folder``, with package lists of its own if there are none."""
    missing = [tool for tool in ('apt-get', 'dpkg') if shutil.which(tool) is None]
    if missing:
        raise FileNotFoundError(f'{" and ".join(missing)} not found: not a Debian or Ubuntu system')

    def apt(*args: str) -> subprocess.CompletedProcess:
        return subprocess.run(['apt-get', *args], cwd=folder, capture_output=True, text=True, timeout=300)

    if apt('download', PACKAGE).returncode:
        own = ('-o', f'Dir::State::Lists={folder}/lists', '-o', f'Dir::Cache={folder}/cache')
        for part in ('lists/partial', 'cache/archives/partial'):
            (folder / part).mkdir(parents=True)
        apt(*own, 'update')
        result = apt(*own, 'download', PACKAGE)
        if result.returncode:
            raise OSError(f'`apt-get download {PACKAGE}` failed: {result.stderr.strip()}')
    package = next(folder.glob('*.deb'))
    subprocess.run(['dpkg', '-x', str(package), str(folder / 'unpacked')], check=True, capture_output=True)
    return folder / 'unpacked' / SYSTEM_FOLDER.relative_to('/')


def download(folder: Path) -> Path:
    """Downloads the official files into ``folder``."""
    for name in FILES:
        with urllib.request.urlopen(f'{URL}{name}.gz', timeout=30) as response:
            (folder / f'{name}.gz').write_bytes(response.read())
    return folder


def sources(given: Path | None) -> Iterator[tuple[str, Callable[[Path], Path]]]:
    """Yields what to try, in order: its name, and how to get a folder from it (with the help of an empty folder)."""
    if given is not None:
        yield f'the given folder {given}', lambda _: given
    yield f'the folder {SYSTEM_FOLDER}', lambda _: SYSTEM_FOLDER
    yield f'the Debian package {PACKAGE}', fetch_package
    yield f'the official download {URL}', download


def find(given: Path | None) -> dict[str, bytes]:
    """Returns the files of the first source that has them all.

    Raises:
        FileNotFoundError: If none has; the message says what was tried and why it was of no use.
    """
    tried = []
    for name, get_folder in sources(given):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                folder = get_folder(Path(scratch))
                files = {file: read(folder, file) for file in FILES}
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                tried.append(f'{name}: {error}')
                print(f'Fashion-MNIST is not to be had from {tried[-1]}', flush=True)
            else:
                print(f'Fashion-MNIST found: {name}', flush=True)
                return files
    raise FileNotFoundError('Fashion-MNIST was not found. Tried, in this order:\n  '
                            + '\n  '.join(tried)
                            + '\nGet the four files *-ubyte.gz on any machine and name their folder with --source.')


def is_prepared(out: Path) -> bool:
    """Whether ``out`` holds the whole data set as mmpretrain reads it."""
    try:
        return all((out / name).is_file() and read(out, name) for name in FILES)
    except ValueError:
        return False


def prepare(out: str | Path = 'data/fashion_mnist', source: str | Path | None = None) -> Path:
    """Writes the four unpacked files into the folder ``out``, all or nothing.

    Args:
        out (str | Path): The folder to write. Defaults to 'data/fashion_mnist'.
        source (str | Path, optional): A folder to look at first. Defaults to None.

    Returns:
        Path: The folder, for which mmpretrain's ``FashionMNIST(data_root=...)`` has all files.

    Raises:
        FileExistsError: If ``out`` exists and holds something else, which is left as it is.
        FileNotFoundError: If no source has the files.
    """
    out = Path(out)
    if is_prepared(out):
        return out
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= set(FILES)):
        raise FileExistsError(f'{out} exists and holds something else: name another folder with --out, or empty it')
    files = find(Path(source) if source is not None else None)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}-') as scratch:
        whole = Path(scratch) / 'whole'
        whole.mkdir()
        for name, data in files.items():
            (whole / name).write_bytes(data)
        if out.exists():  # what an earlier failure of another tool left here
            out.rename(Path(scratch) / 'replaced')
        whole.rename(out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default='data/fashion_mnist', help='folder to write; default: %(default)s')
    parser.add_argument('--source', help='folder that holds the four *-ubyte or *-ubyte.gz files')
    args = parser.parse_args()
    try:
        print(f'Fashion-MNIST is ready in {prepare(args.out, args.source)}')
    except OSError as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
