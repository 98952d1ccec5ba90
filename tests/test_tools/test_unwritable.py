"""Places in which nothing can be written are named before the work is done, or in one line after it."""
import pytest


@pytest.fixture
def refused(tool, tmp_path, monkeypatch, capfd):
    """Runs a tool where ``a_file`` is a file and ``folder.pkl`` a folder; gives the line that it is refused with."""
    (tmp_path / 'a_file').touch()
    (tmp_path / 'folder.pkl').mkdir()
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            tool(*arguments)
        assert stop.value.code == 2
        shown, error = capfd.readouterr()
        assert 'Epoch' not in shown, 'the work was begun'
        return error.splitlines()[-1]

    return run


@pytest.mark.parametrize('options, words', [
    (('--out', 'a_file/x.pkl'), 'nothing can be written into the folder "a_file" (File exists)'),
    (('--out', 'a_file/sub/x.pkl'), 'nothing can be written into the folder "a_file/sub" (Not a directory)'),
    (('--out', '/proc/x.pkl'), 'nothing can be written into the folder "/proc"'),
    (('--out', 'folder.pkl'), '--out "folder.pkl" is a folder: name a file.'),
    (('--out', 'x.txt'), '--out "x.txt": the name must end in .pkl'),
    (('--show-dir', 'a_file/sub'), 'another one with --show-dir.'),
    (('--work-dir', 'a_file/sub'), 'another one with --work-dir.'),
])
def test_of_a_test(options, words, cls_fields, write_config, refused, tmp_path):
    import torch
    torch.save({}, tmp_path / 'epoch_1.pth')
    assert words in refused('test.py', write_config(cls_fields), 'epoch_1.pth', *options)


def test_of_a_training(cls_fields, write_config, refused):
    line = refused('train.py', write_config(cls_fields), '--cfg-options', 'default_hooks.checkpoint.out_dir=a_file/sub')
    assert line.endswith('name another one with --cfg-options default_hooks.checkpoint.out_dir=PATH.')


@pytest.mark.parametrize('out, reason', [('a_file/q.md', 'File exists'), ('folder.pkl', 'Is a directory')])
def test_of_a_tool(out, reason, cls_fields, write_config, refused):
    line = refused('analysis_tools/get_flops.py', write_config(cls_fields), '--out', out)
    assert line == f'error: "{out}" cannot be written: {reason}. Name another place.'
