import argparse
import builtins
import contextlib
import functools
import http.server
import os
import pickle
import re
import shutil
import socket
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from mmengine.utils import mkdir_or_exist
from safetensors.torch import save_file

from mmscalenet.checkpoints import CheckpointError, read_checkpoint
from mmscalenet.checkpoints.safe_pickle import Inert

FORMATS = pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder, )


def save(content, path, zipped):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return str(path)


@FORMATS
def test_malicious_file_is_refused_and_does_not_run(tmp_path, zipped):
    made = tmp_path / 'made'
    path = save({'state_dict': {'weight': torch.ones(2)}, 'meta': Attack(made)}, tmp_path / 'attack.pth', zipped)
    with pytest.raises(CheckpointError, match=r'attack\.pth: refused.*mkdir.*trusted=True'):
        read_checkpoint(path)
    assert not made.exists()
    # the file is a real attack: read as trusted it runs
    read_checkpoint(path, trusted=True)
    assert made.exists()


@pytest.mark.parametrize('protocol', range(6))
def test_plain_pickle_is_refused_and_does_not_run(tmp_path, protocol):
    made, path = tmp_path / 'made', tmp_path / 'attack.pkl'
    path.write_bytes(pickle.dumps(Attack(made), protocol=protocol))
    with pytest.raises(CheckpointError, match=r'attack\.pkl: (refused|no checkpoint)'):
        read_checkpoint(path)
    assert not made.exists()


@pytest.mark.parametrize('name', ['builtins.eval', 'builtins.exec', 'builtins.__import__', 'os.system', 'posix.system',
                                  'subprocess.Popen', 'torch.load', 'torch.hub.load', 'torch.storage._load_from_bytes',
                                  'zipimport.zipimporter', 'collections.abc.Mapping', 'mmengineevil.f', 'codecs.open',
                                  'torch.jit.load', 'pickle.loads', 'runpy.run_path', 'operator.attrgetter'])
@FORMATS
def test_names_outside_the_list_are_refused(tmp_path, name, zipped):
    """Naming a global is enough to import its module."""
    class Named:
        def __reduce__(self):
            return print, ()

    path = Path(save([Named()], tmp_path / 'f.pth', zipped))
    module, _, attribute = name.rpartition('.')
    old, new = b'c__builtin__\nprint\n', f'c{module}\n{attribute}\n'.encode()
    content = path.read_bytes()
    assert old in content
    if zipped:  # rewrite the record, as its length and checksum change
        with zipfile.ZipFile(path) as archive:
            records = {info.filename: archive.read(info).replace(old, new) for info in archive.infolist()}
        with zipfile.ZipFile(path, 'w') as archive:
            for record, data in records.items():
                archive.writestr(record, data)
    else:
        path.write_bytes(content.replace(old, new))
    with pytest.raises(CheckpointError, match=f'would call {name}'):
        read_checkpoint(path)


@FORMATS
def test_calls_of_metadata_packages_do_nothing(tmp_path, zipped):
    made = tmp_path / 'made'

    class Call:
        def __reduce__(self):
            return mkdir_or_exist, (str(made), )

    read = read_checkpoint(save({'weight': torch.ones(1), 'meta': Call()}, tmp_path / 'f.pth', zipped))
    assert type(read['meta']) is Inert and not made.exists()


@FORMATS
def test_marks_on_tensors_are_left_out(tmp_path, zipped):
    """A compiled step leaves them on the state of its optimizer; they could be anything."""
    tensor, parameter = torch.arange(6.), torch.nn.Parameter(torch.ones(2))
    tensor.mark = parameter.mark = 'guarded'
    read = read_checkpoint(save({'weight': tensor, 'other': parameter}, tmp_path / 'f.pth', zipped))
    assert read['weight'].equal(tensor) and read['other'].equal(parameter) and not hasattr(read['weight'], 'mark')


@pytest.mark.parametrize('call', [
    (torch._tensor._rebuild_from_type_v2, (mkdir_or_exist, torch.Tensor, ('made', ), {})),
    (torch._tensor._rebuild_from_type_v2, (dict, torch.Tensor, (), {})),
    (torch._tensor._rebuild_from_type_v2, (torch._utils._rebuild_tensor, dict, (), {})),
    (torch.Tensor, (10**15, )),
    (torch.nn.Parameter, (10**15, )),
], ids=['a call', 'a dict', 'of a dict', 'a tensor', 'a parameter'])
def test_what_tensors_with_marks_are_made_of(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forged = type('Forged', (), dict(__reduce__=lambda self: call))()
    with pytest.raises(CheckpointError):
        read_checkpoint(save({'weight': torch.ones(1), 'forged': forged}, 'f.pth', True))
    assert not Path('made').exists()


def test_state_for_a_class_is_refused(tmp_path):
    # BUILD with {'poisoned': 1} on the class OrderedDict itself
    content = b'\x80\x02ccollections\nOrderedDict\n}(X\x08\x00\x00\x00poisonedI1\nub.'
    path = tmp_path / 'f.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='a state for'):
        read_checkpoint(path)


@FORMATS
def test_runner_metadata(tmp_path, zipped):
    """What runners save beside the weights: plain values are kept, objects become placeholders."""
    buffer = HistoryBuffer([1., 2.], [1, 1])
    content = {
        'state_dict': {'weight': torch.arange(6.).reshape(2, 3), 'half': torch.ones(2, dtype=torch.bfloat16)},
        'message_hub': {'log_scalars': {'loss': buffer}, 'runtime_info': {'best': np.float64(.5), 'iter': 3}},
        'meta': {'args': argparse.Namespace(lr=1.), 'cfg': Config({'a': {'b': 1}}), 'dir': Path('/tmp'),
                 'array': np.arange(3), 'text': np.str_('x'), 'bytes': b'\xff', 'set': {1, 2}, 'slice': slice(1),
                 'complex': 1j, 'dtype': torch.float16, 'size': torch.Size([1, 2]), 'device': torch.device('cpu')},
    }
    read = read_checkpoint(save(content, tmp_path / 'runner.pth', zipped))
    for name, tensor in content['state_dict'].items():
        assert read['state_dict'][name].equal(tensor) and read['state_dict'][name].dtype == tensor.dtype
    assert read['message_hub']['runtime_info']['iter'] == 3
    assert read['message_hub']['runtime_info']['best'] == .5
    history, counts = read['message_hub']['log_scalars']['loss'].data
    assert history.tolist() == [1., 2.] and counts.tolist() == [1, 1]
    assert buffer.statistics('mean') == 1.5  # the class still has its functions
    for key, value in read['meta'].items():
        if key in ('args', 'cfg', 'dir', 'text'):
            assert type(value) is Inert
        elif key == 'array':
            assert value.dtype == np.int64 and value.tolist() == [0, 1, 2]
        else:
            assert value == content['meta'][key]


@FORMATS
@pytest.mark.parametrize('array', [
    np.arange(6, dtype=np.float32).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.empty((0, 4)),
    np.array(2.5), np.array([True, False]), np.array([1 + 2j]), np.uint8(200), np.bool_(True), np.float16(.5)
], ids=str)
def test_arrays_of_numbers(tmp_path, zipped, array):
    again = read_checkpoint(save(dict(array=array, again=array), tmp_path / 'f.pth', zipped))
    for read in again.values():
        assert type(read) is type(array) and read.dtype == array.dtype
        assert read.shape == array.shape and np.array_equal(read, array)


@pytest.mark.parametrize('state', [
    (1, (10**6, ), np.dtype('f8'), False, b'12345678'),  # would read what lies behind
    (1, (-1, ), np.dtype('f8'), False, b'12345678'),
    (1, (1, ), 'f8', False, b'12345678'),
    (1, (1, ), np.dtype('O'), False, b'12345678'),  # the bytes would be taken for an address
    (1, (1, ), np.dtype('f8').newbyteorder(), False, b'12345678'),
])
def test_forged_arrays_reach_no_memory(tmp_path, state):
    class Forged:
        def __reduce__(self):
            return np.empty(0).__reduce__()[:2] + (state, )

    path = save(dict(weight=torch.ones(1), meta=Forged()), tmp_path / 'f.pth', True)
    try:
        assert read_checkpoint(path)['meta'].size == 0
    except CheckpointError as error:
        assert 'f.pth: ' in str(error)


@FORMATS
@pytest.mark.parametrize('share', [.05, .5, .95, .999])
def test_truncated(tmp_path, zipped, share):
    path = Path(save({'weight': torch.rand(100, 100)}, tmp_path / 'cut.pth', zipped))
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r'cut\.pth: truncated'):
        read_checkpoint(path)


def test_truncated_safetensors(tmp_path):
    path = tmp_path / 'model.safetensors'
    save_file({'weight': torch.arange(4.)}, path)
    assert read_checkpoint(path)['weight'].tolist() == [0, 1, 2, 3]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r'model\.safetensors: truncated'):
        read_checkpoint(path)


@pytest.mark.parametrize('content, reason', [
    (b'', 'empty'),
    (b'\n<!DOCTYPE html><html>404</html>', 'web page'),
    (b'<html><body>Sign in</body></html>', 'web page'),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:00\n', 'no checkpoint'),
    (b'\x89PNG\r\n', 'no checkpoint'),
    (pickle.dumps({'weight': [1.]}), 'truncated, damaged or not written by torch.save'),
])
def test_not_a_checkpoint(tmp_path, content, reason):
    path = tmp_path / 'file.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf'file\.pth: .*{reason}'):
        read_checkpoint(path)


def test_missing_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r'nothing\.pth: No such file'):
        read_checkpoint(tmp_path / 'nothing.pth')
    with pytest.raises(CheckpointError, match='Is a directory'):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r'nowhere://a/b\.pth: cannot be fetched'):
        read_checkpoint('nowhere://a/b.pth')


def test_torchscript_and_other_content(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / 'script.pth')
    for trusted in (False, True):
        with pytest.raises(CheckpointError, match='TorchScript'):
            read_checkpoint(tmp_path / 'script.pth', trusted)
    torch.save([torch.ones(1)], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='holds a list'):
        read_checkpoint(tmp_path / 'list.pth')
    torch.save(torch.nn.Linear(2, 2), tmp_path / 'model.pth')
    with pytest.raises(CheckpointError, match=r'call torch\.nn\.modules\.linear\.Linear'):
        read_checkpoint(tmp_path / 'model.pth')
    with pytest.raises(CheckpointError, match='holds a Linear'):
        read_checkpoint(tmp_path / 'model.pth', trusted=True)


def test_url(tmp_path, monkeypatch):
    served, hub = tmp_path / 'served', tmp_path / 'hub'
    served.mkdir()
    torch.save({'weight': torch.ones(2)}, served / 'model.pth')
    (served / 'page.pth').write_text('<html></html>')
    for number, folder in enumerate('ab'):  # on some sites all files have one name
        (served / folder).mkdir()
        torch.save({'weight': torch.full((2, ), number)}, served / folder / 'model.bin')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(hub))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}'
    try:
        assert read_checkpoint(f'{url}/model.pth?x=1')['weight'].tolist() == [1, 1]
        with pytest.raises(CheckpointError, match=r'none\.pth: download failed: .*404'):
            read_checkpoint(f'{url}/none.pth')
        with pytest.raises(CheckpointError, match=r'page\.pth: this is a web page'):
            read_checkpoint(f'{url}/page.pth')
        for _ in range(2):
            assert [read_checkpoint(f'{url}/{folder}/model.bin')['weight'][0] for folder in 'ab'] == [0, 1]
    finally:
        server.shutdown()
        server.server_close()
    assert read_checkpoint(f'{url}/model.pth')['weight'].tolist() == [1, 1]  # kept
    with pytest.raises(CheckpointError, match='download failed'):
        read_checkpoint(f'{url}/other.pth')
    names = sorted(path.name for path in hub.rglob('*.*') if path.suffix != '.url')
    assert len(names) == 3 and {'model.bin', 'model.pth'} < {*names}  # what was refused is not
    kept = hub / 'checkpoints' / 'model.pth'
    kept.write_bytes(b'')
    with pytest.raises(CheckpointError, match=rf'kept at {kept}\): the file is empty'):
        read_checkpoint(f'{url}/model.pth')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes')
def test_special_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'pipe.pth')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / 'socket.pth'))
        for path in (tmp_path / 'pipe.pth', tmp_path / 'socket.pth', '/dev/zero', '/dev/null'):
            with pytest.raises(CheckpointError, match=f'^{path}: no regular file'):
                read_checkpoint(path)


@pytest.mark.parametrize('name', ['a\0b.pth', 'a' * 5000, 'line\nbreak\x1b[31m.pth', '\udcff.pth'])
def test_strange_file_names(tmp_path, name):
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(f'{tmp_path}/{name}')
    assert str(raised.value).isprintable() and len(str(raised.value)) < 1500


def rewrite(path, change):
    """Write a zip file anew, with checksums that agree, as a forger would."""
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for record, data in records.items():
            archive.writestr(record, change(data) if record.endswith('data.pkl') else data)


@FORMATS
@pytest.mark.parametrize('claim', [
    lambda data: re.sub(rb'K\x07(?=N?t)', b'\x8a\x06\0\0\0\0\0\x01', data),  # 2**40 numbers in the storage
    lambda data: re.sub(rb'K\x07(?=N?t)', b'J\xff\xff\xff\xff', data),  # -1
    lambda data: data.replace(b'K\x07\x85', b'\x8a\x06\0\0\0\0\0\x01\x85').replace(b'K\x01\x85', b'K\0\x85'),  # a view
], ids=['storage', 'negative', 'view'])
def test_a_claim_of_size_takes_no_memory(tmp_path, zipped, claim):
    path = Path(save({'weight': torch.rand(7)}, tmp_path / 'f.pth', zipped))
    before = path.read_bytes()
    if zipped:
        rewrite(path, claim)
    else:
        path.write_bytes(claim(before))
    assert path.read_bytes() != before
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r'f\.pth: truncated, damaged or not'):
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


class _Laughs:
    """Ten lists in ten lists, five times: 24 bytes of file for each, ten times the text."""

    def __reduce__(self):
        value = 'ha'
        for _ in range(5):
            value = [value] * 10
        return str, (value, )


def test_a_copy_without_a_suffix(tmp_path):
    """What a storage hands out: mmengine's PetrelBackend copies to a temporary file of any name."""
    class Bucket(LocalBackend):
        @contextlib.contextmanager
        def get_local_path(self, filepath):
            copy = tmp_path / 'tmpx7'
            shutil.copy(tmp_path / filepath.removeprefix('bucket://'), copy)
            yield str(copy)

    register_backend('bucket', Bucket, prefixes='bucket', force=True)
    save_file({'weight': torch.ones(2)}, tmp_path / 'model.safetensors')
    (tmp_path / 'model.safetensors.index.json').write_text('{"weight_map": {"weight": "model.safetensors"}}')
    for name in ('model.safetensors', 'model.safetensors.index.json'):
        assert read_checkpoint(f'bucket://{name}')['weight'].equal(torch.ones(2))


@FORMATS
def test_lists_are_no_text(tmp_path, zipped):
    torch.save([_Laughs()], tmp_path / 'f.pth', pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match='str of a size and no content'):
        read_checkpoint(tmp_path / 'f.pth')


@pytest.mark.parametrize('instruction', ['OBJ', 'INST'])
def test_every_instruction_that_calls_is_checked(tmp_path, instruction):
    """A view of 2**40 numbers, made by one that today's pickles have not."""
    called = b'ctorch._utils\n_rebuild_tensor_v2\nq\x02'
    start, end = dict(OBJ=(b'(' + called, b'o'), INST=(b'(', b'itorch._utils\n_rebuild_tensor_v2\n'))[instruction]

    def change(data: bytes, size: bytes = b'K\x07') -> bytes:
        data = data.replace(called + b'(', start).replace(b'tq\x0cR', end)
        return data.replace(b'K\x07\x85', size + b'\x85').replace(b'K\x01\x85', b'K\0\x85')

    path = Path(save({'weight': torch.full((7, ), 3.)}, tmp_path / 'f.pth', True))
    rewrite(path, change)
    assert read_checkpoint(path)['weight'].equal(torch.full((7, ), 3.))  # the instruction is right
    save({'weight': torch.ones(7)}, path, True)
    rewrite(path, lambda data: change(data, b'\x8a\x06\0\0\0\0\0\x01'))
    with pytest.raises(CheckpointError, match='a tensor of shape .* in a smaller file'):
        read_checkpoint(path)


@FORMATS
@pytest.mark.parametrize('kind', ['bytes', 'bytearray'])
def test_room_without_content_is_refused(tmp_path, zipped, kind):
    class Room:
        def __reduce__(self):
            return getattr(builtins, kind), (10**13, )

    with pytest.raises(CheckpointError, match=f'{kind} of a size and no content'):
        read_checkpoint(save([Room()], tmp_path / 'f.pth', zipped))


def test_a_compressed_archive_is_refused(tmp_path):
    """A gigabyte of zeros fits into a megabyte."""
    path = tmp_path / 'f.pth'
    torch.save({'weight': torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for record, data in records.items():
            archive.writestr(record, data)
    assert torch.load(path)['weight'].numel() == 1000
    with pytest.raises(CheckpointError, match='record .* is compressed'):
        read_checkpoint(path)


def test_a_flipped_bit_is_refused_wherever_it_is(tmp_path):
    path = tmp_path / 'f.pth'
    torch.save({'state_dict': {'a': torch.rand(50), 'b': torch.rand(3, 5)}}, path)
    whole, expected = path.read_bytes(), read_checkpoint(path)['state_dict']
    for place in range(0, len(whole) * 8, 37):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            read = read_checkpoint(path)['state_dict']
        except CheckpointError as error:
            assert 'f.pth: ' in str(error)
            continue
        assert read.keys() == expected.keys() and all(map(torch.equal, read.values(), expected.values())), place


@pytest.mark.skipif(not hasattr(torch.serialization, 'set_crc32_options'), reason='this torch always writes checksums')
def test_a_file_written_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'weight': torch.ones(20)}, tmp_path / 'f.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / 'f.pth')['weight'].sum() == 20
