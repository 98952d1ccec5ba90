"""tools/dataset_converters/prepare_fashion_mnist.py, on small files that stand in for the real ones.

Only the table of sizes and checksums and the addresses are exchanged: files, archives, apt and HTTP are real.
"""
import functools
import gzip
import hashlib
import http.server
import importlib.util
import os
import shutil
import struct
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

TOOL = Path(__file__).resolve().parents[2] / 'tools/dataset_converters/prepare_fashion_mnist.py'
NAMES = ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte', 't10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte')


@pytest.fixture
def contents() -> dict[str, bytes]:
    """The four files of a data set of 30 + 20 images."""
    rng, result = np.random.default_rng(0), {}
    for split, count in (('train', 30), ('t10k', 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        result[f'{split}-images-idx3-ubyte'] = struct.pack('>4I', 0x803, count, 28, 28) + images.tobytes()
        result[f'{split}-labels-idx1-ubyte'] = struct.pack('>2I', 0x801, count) + labels.tobytes()
    return result


@pytest.fixture
def tool(monkeypatch, tmp_path, contents):
    """The script as a module, to which ``contents`` is the official data set and no source is at hand."""
    spec = importlib.util.spec_from_file_location('prepare_fashion_mnist', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert tuple(module.FILES) == NAMES
    monkeypatch.setattr(module, 'FILES',
                        {name: (len(data), hashlib.md5(data).hexdigest()) for name, data in contents.items()})
    monkeypatch.setattr(module, 'SYSTEM_FOLDER', tmp_path / 'nowhere')
    monkeypatch.setattr(module, 'PACKAGE', 'there-is-no-such-package')
    monkeypatch.setattr(module, 'URL', 'http://127.0.0.1:9/')
    return module


@pytest.fixture
def no_apt(monkeypatch, tmp_path):
    """A system without apt, so that a test of something else need not wait for it."""
    monkeypatch.setenv('PATH', str(tmp_path / 'empty'))


def fill(folder: Path, contents: dict[str, bytes], packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, data in contents.items():
        (folder / (f'{name}.gz' if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize('packed', [True, False])
def test_given_folder(tool, no_apt, tmp_path, contents, packed):
    out = tool.prepare(tmp_path / 'data/fashion', fill(tmp_path / 'given', contents, packed))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == contents
    assert [path.name for path in out.parent.iterdir()] == ['fashion']  # no scratch left


def test_mmpretrain_reads_it(tool, no_apt, tmp_path, contents):
    out = tool.prepare(tmp_path / 'fashion', fill(tmp_path / 'given', contents))
    init_default_scope('mmpretrain')
    for test_mode, split in ((False, 'train'), (True, 't10k')):
        dataset = DATASETS.build(dict(type='FashionMNIST', data_root=str(out), download=False, test_mode=test_mode))
        labels = contents[f'{split}-labels-idx1-ubyte'][8:]
        assert [int(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset))] == list(labels)
        image = dataset.get_data_info(1)['img']
        assert image.tobytes() == contents[f'{split}-images-idx3-ubyte'][16 + 784:16 + 2 * 784]


def test_order(tool, no_apt, monkeypatch, tmp_path, contents, capsys):
    """The given folder goes before the system's, which serves where the given one is of no use."""
    monkeypatch.setattr(tool, 'SYSTEM_FOLDER', fill(tmp_path / 'system', contents))
    tool.prepare(tmp_path / 'a', fill(tmp_path / 'given', contents))
    assert f'found: the given folder {tmp_path / "given"}' in capsys.readouterr().out
    tool.prepare(tmp_path / 'b', tmp_path / 'misspelt')
    printed = capsys.readouterr().out
    assert f'found: the folder {tmp_path / "system"}' in printed and 'misspelt' in printed


@pytest.mark.skipif(not (shutil.which('apt-get') and shutil.which('dpkg-deb')), reason='no Debian or Ubuntu')
def test_package(tool, monkeypatch, tmp_path, contents):
    """A package is fetched from an archive of our own by apt and unpacked; nothing gets installed."""
    monkeypatch.setattr(tool, 'SYSTEM_FOLDER', Path('/usr/share/datasets/test-of-mmscalenet'))
    package = tmp_path / 'package'
    fill(package / 'usr/share/datasets/test-of-mmscalenet', contents)
    (package / 'DEBIAN').mkdir()
    control = ('Package: test-of-mmscalenet\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\n'
               'Description: test\n')
    (package / 'DEBIAN/control').write_text(control)
    archive = tmp_path / 'archive'
    archive.mkdir()
    deb = archive / 'test.deb'
    subprocess.run(['dpkg-deb', '--build', str(package), str(deb)], check=True, capture_output=True)
    (archive / 'Packages').write_text(f'{control}Filename: ./test.deb\nSize: {deb.stat().st_size}\n'
                                      f'SHA256: {hashlib.sha256(deb.read_bytes()).hexdigest()}\n')
    (tmp_path / 'sources.list').write_text(f'deb [trusted=yes] file:{archive} ./\n')
    (tmp_path / 'apt.conf').write_text(f'Dir::Etc::SourceList "{tmp_path}/sources.list";\n'
                                       'Dir::Etc::SourceParts "-";\nAPT::Sandbox::User "root";\n')
    monkeypatch.setenv('APT_CONFIG', str(tmp_path / 'apt.conf'))
    monkeypatch.setattr(tool, 'PACKAGE', 'test-of-mmscalenet')
    out = tool.prepare(tmp_path / 'fashion')
    assert {path.name: path.read_bytes() for path in out.iterdir()} == contents
    assert not tool.SYSTEM_FOLDER.exists()


def test_download(tool, no_apt, monkeypatch, tmp_path, contents):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=fill(tmp_path / 'web', contents))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(tool, 'URL', f'http://127.0.0.1:{server.server_port}/')
        out = tool.prepare(tmp_path / 'fashion')
        server.shutdown()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == contents


def test_nothing_found(tool, no_apt, tmp_path):
    """One error that lists what was tried, in order, and nothing written."""
    with pytest.raises(FileNotFoundError) as error:
        tool.prepare(tmp_path / 'data/fashion', tmp_path / 'given')
    tried = [line.strip() for line in str(error.value).splitlines()[1:-1]]
    for line, start in zip(tried, ('the given folder', 'the folder', 'the Debian package', 'the official download'),
                           strict=True):
        assert line.startswith(start)
    assert not (tmp_path / 'data').exists()


@pytest.mark.parametrize('damage', [
    lambda path: path.write_bytes(path.read_bytes()[:-20]),
    lambda path: path.write_bytes(b'<html>not found</html>'),
    lambda path: path.write_bytes(gzip.compress(b'another file')),
    lambda path: path.unlink(),
], ids=['truncated', 'html', 'other content', 'missing'])
def test_damaged_source(tool, no_apt, tmp_path, contents, damage):
    given = fill(tmp_path / 'given', contents)
    damage(given / f'{NAMES[3]}.gz')
    with pytest.raises(FileNotFoundError, match=NAMES[3]):
        tool.prepare(tmp_path / 'data/fashion', given)
    assert not (tmp_path / 'data').exists()


def test_repeated_and_repaired(tool, no_apt, tmp_path, contents, capsys):
    given, out = fill(tmp_path / 'given', contents), tmp_path / 'fashion'
    tool.prepare(out, given)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    shutil.rmtree(given)
    capsys.readouterr()
    tool.prepare(out)  # needs no source any more
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert capsys.readouterr().out == ''

    (out / NAMES[0]).write_bytes(b'cut off')
    with pytest.raises(FileNotFoundError):
        tool.prepare(out)
    assert (out / NAMES[0]).read_bytes() == b'cut off'
    tool.prepare(out, fill(given, contents))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == contents


def test_foreign_folder_is_left_alone(tool, no_apt, tmp_path, contents):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/letter.txt').write_text('dear')
    with pytest.raises(FileExistsError, match='--out'):
        tool.prepare(tmp_path / 'mine', fill(tmp_path / 'given', contents))
    assert os.listdir(tmp_path / 'mine') == ['letter.txt']
