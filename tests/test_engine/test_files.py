"""Files under their final name are whole."""
import errno
import io

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import get_file_backend
from safetensors.torch import save_file

from mmscalenet.checkpoints import read_checkpoint
from mmscalenet.engine import UsageError, WholeFileBackend, check_checkpoint, is_whole, remove_temporary, whole_file
from mmscalenet.engine.runner import replace_parts


def test_backend_writes_bytes_and_text(tmp_path):
    backend = WholeFileBackend()
    backend.put(b'abc', tmp_path / 'new/folder/file')
    backend.put_text('größer', str(tmp_path / 'text'))
    backend.put_text('kleiner', str(tmp_path / 'text'))
    assert backend.get(tmp_path / 'new/folder/file') == b'abc'
    assert backend.get_text(tmp_path / 'text') == 'kleiner'
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ['text']


@pytest.mark.parametrize('name', ['model.safetensors', 'MODEL.SAFETENSORS'])
def test_safetensors_are_left_to_their_reader(name, tmp_path):
    save_file({'weight': torch.ones(2)}, tmp_path / name)
    check_checkpoint(str(tmp_path / name), 'checkpoint')
    assert read_checkpoint(tmp_path / name)['weight'].tolist() == [1, 1]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(ValueError), whole_file(path) as temporary:
        temporary.write_text('half')
        raise ValueError
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_errors_of_writing_are_told_from_others(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError) as error, whole_file(tmp_path / 'file/inside'):
        pass
    assert error.value.unwritten == str(tmp_path / 'file/inside')
    with pytest.raises(OSError) as error, whole_file(tmp_path / 'new') as temporary:
        open(temporary / 'inside', 'w')
    assert not hasattr(error.value, 'unwritten')
    with pytest.raises(OSError) as error, whole_file(tmp_path / 'new') as temporary:
        raise OSError(errno.ENOSPC, 'No space left on device', temporary)
    assert error.value.unwritten == str(tmp_path / 'new')
    with pytest.raises(OSError) as error, whole_file(tmp_path / 'new'):
        open(tmp_path / 'nowhere')
    assert not hasattr(error.value, 'unwritten')
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_remove_temporary(tmp_path):
    for name in ('.epoch_1.pth.123.tmp', 'epoch_1.pth', '.hidden', '.other.tmp', 'notes.tmp'):
        (tmp_path / name).touch()
    remove_temporary(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {'epoch_1.pth', '.hidden', '.other.tmp', 'notes.tmp'}
    remove_temporary(tmp_path / 'absent')


def test_replaces_the_local_backend():
    replace_parts(Config())
    replace_parts(Config())
    assert isinstance(get_file_backend('some/path'), WholeFileBackend)


@pytest.fixture
def checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state_dict=dict(weight=torch.arange(1000.))), buffer)
    return buffer.getvalue()


def test_is_whole(tmp_path, checkpoint):
    path = tmp_path / 'file.pth'
    assert not is_whole(path)
    path.write_bytes(checkpoint)
    assert is_whole(path)
    for cut in (0, 1, len(checkpoint) // 2, len(checkpoint) - 1):
        path.write_bytes(checkpoint[:cut])
        assert not is_whole(path), cut
    middle = len(checkpoint) // 2
    path.write_bytes(checkpoint[:middle] + bytes(8) + checkpoint[middle + 8:])
    assert not is_whole(path), 'zeroed bytes were not noticed'
    path.write_bytes(bytes(len(checkpoint)))
    assert not is_whole(path)


def test_check_checkpoint(tmp_path, checkpoint):
    path = tmp_path / 'file.pth'
    path.write_bytes(checkpoint)
    check_checkpoint(str(path), 'checkpoint')
    torch.save(dict(weight=torch.zeros(3)), path, _use_new_zipfile_serialization=False)  # as before torch 1.6
    check_checkpoint(str(path), 'checkpoint')
    check_checkpoint('https://host/file.pth', 'checkpoint')
    with pytest.raises(UsageError, match='does not exist'):
        check_checkpoint(str(tmp_path), 'checkpoint')
