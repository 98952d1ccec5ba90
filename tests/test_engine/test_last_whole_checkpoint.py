"""Which checkpoint an interrupted training goes on from."""
import os
from pathlib import Path

import pytest
import torch

from mmscalenet.engine import last_whole_checkpoint


@pytest.fixture
def save(tmp_path):
    """Write a checkpoint, or a piece of one, as the ``age``-th last file."""

    def write(name: str, age: int, whole: bool = True) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(weight=torch.zeros(100)), path)
        if not whole:
            path.write_bytes(path.read_bytes()[:-10])
        os.utime(path, (1000 - age, 1000 - age))
        return str(path)

    return write


def point(folder: Path, target: str, age: int) -> None:
    (folder / 'last_checkpoint').write_text(target)
    os.utime(folder / 'last_checkpoint', (1000 - age, 1000 - age))


def test_nothing_there(tmp_path):
    assert last_whole_checkpoint(tmp_path / 'absent') == (None, [])
    point(tmp_path, str(tmp_path / 'epoch_3.pth'), 0)
    assert last_whole_checkpoint(tmp_path) == (None, [])


def test_newest_without_a_pointer(tmp_path, save):
    save('epoch_9.pth', 2)
    newest = save('epoch_10.pth', 1)
    save('best_acc_epoch_11.pth', 0)  # holds no optimizer
    save('epoch_11-0a1b2c3d.pth', 0)  # published
    assert last_whole_checkpoint(tmp_path) == (newest, [])


def test_killed_before_the_pointer_was_written(tmp_path, save):
    point(tmp_path, save('epoch_1.pth', 5), 4)
    newest = save('epoch_2.pth', 1)
    assert last_whole_checkpoint(tmp_path) == (newest, [])


def test_started_again_in_a_used_folder(tmp_path, save):
    """Files of an earlier, longer training are older whatever their number."""
    save('epoch_12.pth', 9)
    first = save('epoch_1.pth', 2)
    point(tmp_path, first, 1)
    assert last_whole_checkpoint(tmp_path) == (first, [])


def test_copy_that_lost_the_times(tmp_path, save):
    named = save('epoch_10.pth', 3)
    save('epoch_9.pth', 2)
    point(tmp_path, '/where/it/was/epoch_10.pth', 1)
    assert last_whole_checkpoint(tmp_path) == (named, [])


def test_damaged_ones_are_reported(tmp_path, save):
    whole = save('epoch_1.pth', 3)
    older, newer = save('epoch_2.pth', 2, whole=False), save('epoch_3.pth', 1, whole=False)
    point(tmp_path, newer, 0)
    assert last_whole_checkpoint(tmp_path) == (whole, [newer, older])


def test_other_names_and_folders(tmp_path, save):
    iteration = save('work/iter_400.pth', 0)
    assert last_whole_checkpoint(tmp_path / 'work', dict(by_epoch=False)) == (iteration, [])
    assert last_whole_checkpoint(tmp_path / 'work') == (None, [])
    named = save('work/step-7.ckpt', 0)
    assert last_whole_checkpoint(tmp_path / 'work', dict(filename_tmpl='step-{}.ckpt')) == (named, [])
    padded = save('padded/epoch_002.pth', 0)
    assert last_whole_checkpoint(tmp_path / 'padded', dict(filename_tmpl='epoch_{:03d}.pth')) == (padded, [])
    elsewhere = save('big_disk/work/epoch_2.pth', 0)
    assert last_whole_checkpoint(tmp_path / 'work', dict(out_dir=str(tmp_path / 'big_disk'))) == (elsewhere, [])


def test_a_moved_folder_with_another_in_its_place(tmp_path, save):
    """Its own file of that name counts, not the one at the path that was written."""
    other = save('work/epoch_3.pth', 0)
    own = save('moved/epoch_3.pth', 5)
    point(tmp_path / 'moved', other, 4)
    assert last_whole_checkpoint(tmp_path / 'moved') == (own, [])
