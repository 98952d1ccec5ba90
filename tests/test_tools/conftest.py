"""Fixtures: the tiny data as a copy that can be broken."""
import shutil

import pytest


@pytest.fixture
def data(tiny_data, tmp_path):
    """A copy to break."""
    return shutil.copytree(tiny_data, tmp_path / 'data')


@pytest.fixture
def fields(request, tiny_data, data):
    """The fields of one task on the copy."""

    def build(task: str) -> dict:
        text = repr(request.getfixturevalue(f'{task}_fields')).replace(str(tiny_data), str(data))
        return eval(text)

    return build


@pytest.fixture
def trained(fields, write_config, tool, tmp_path):
    """A config and the checkpoint that it made, and the data still whole."""

    def build(task: str):
        config = write_config(fields(task))
        tool('train.py', config, '--no-validate')
        return config, (tmp_path / 'work_dirs/tiny/last_checkpoint').read_text()

    return build
