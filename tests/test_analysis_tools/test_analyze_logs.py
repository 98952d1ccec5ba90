"""tools/analysis_tools/analyze_logs.py on what the runner writes, and on logs made by hand."""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools/analysis_tools'))
import analyze_logs  # noqa: E402

SCRIPT = 'analysis_tools/analyze_logs.py'


def write_run(work_dir: Path, name: str, epochs: range, resume: bool = False, cut: int = 0,
              missing_val: int = 0) -> Path:
    """A run of two iterations an epoch: loss 100 - iteration, top1 10 * epoch but for its fall at the end."""
    records = []
    for epoch in epochs:
        for step in (2 * epoch - 1, 2 * epoch):
            records.append(dict(loss=100. - step, loss_cls=1., time=0.5, data_time=0.1, epoch=epoch, iter=step,
                                step=step))
        if epoch != missing_val:
            top1 = 10. * epoch if epoch < 5 else 1.
            records.append({'accuracy/top1': top1, 'accuracy/top1_soft': 2., 'time': 9., 'step': epoch})
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(json.dumps(record) + '\n' for record in records)
    (folder / 'scalars.json').write_text(text[:len(text) - cut])
    (folder / 'config.py').write_text(f'resume = {resume}\n')
    return folder.parent


def test_runs_of_a_real_training(cls_fields, write_config, tool, tmp_path, capfd):
    """Trained for 1 epoch, then resumed to 2: one curve of 4 iterations and 2 validations."""
    for epochs in (1, 2):
        config = write_config(cls_fields | dict(train_cfg=dict(by_epoch=True, max_epochs=epochs)), 'run')
        tool('train.py', config, '--work-dir', 'work', '--resume')
        if epochs == 1:  # runs are told apart by the second they start in
            first, = (path for path in (tmp_path / 'work').iterdir() if path.is_dir())
            first.rename(first.with_name('20200101_000000'))
    capfd.readouterr()
    tool(SCRIPT, 'work', '--out', 'curves.png')
    head, loss, top1, *_ = capfd.readouterr().out.splitlines()
    assert head.split() == ['log', 'key', 'best', 'at', 'last', 'at', 's/iteration']
    assert loss.split()[:2] == ['work', 'loss'] and loss.split()[-3:-1] == ['iteration', '4']
    assert top1.split()[:2] == ['work', 'accuracy/top1'] and top1.split()[-3:-1] == ['epoch', '2']
    assert float(loss.split()[-1]) > 0
    assert analyze_logs.read_log(str(tmp_path / 'work')).curve('loss')[0] == [1, 2, 3, 4]
    assert np.array(Image.open(tmp_path / 'curves.png').convert('RGB')).std() > 10


@pytest.mark.parametrize('by_epoch', [True, False])
def test_iterations(by_epoch, seg_fields, write_config, tool, tmp_path, capfd):
    """Training that counts no epochs: validation stands at iterations, also where mmengine writes epoch 0."""
    seg_fields['visualizer']['vis_backends'] = [dict(type='LocalVisBackend')]
    seg_fields['default_hooks']['logger']['log_metric_by_epoch'] = by_epoch
    seg_fields['log_processor'] = dict(by_epoch=by_epoch)
    tool('train.py', write_config(seg_fields), '--work-dir', 'work')
    capfd.readouterr()
    tool(SCRIPT, 'work', '--keys', 'mIoU', 'decode.acc_seg')
    _, miou, acc = capfd.readouterr().out.splitlines()
    assert miou.split()[-3:-1] == acc.split()[-3:-1] == ['iteration', '2']


def test_best_and_last(tmp_path, capsys):
    write_run(tmp_path / 'a', '20260101_000000', range(1, 6))
    log = analyze_logs.read_log(str(tmp_path / 'a'))
    assert analyze_logs.default_keys([log]) == ['loss', 'accuracy/top1']
    _, loss, top1 = analyze_logs.table([log], ['loss', 'accuracy/top1']).splitlines()
    assert loss.split()[1:] == ['loss', '90', 'iteration', '10', '90', 'iteration', '10', '0.5000']
    assert top1.split()[1:] == ['accuracy/top1', '40', 'epoch', '4', '1', 'epoch', '5', '0.5000']


def test_resumed_runs_are_joined(tmp_path):
    """Killed in epoch 3 after epoch 2 was saved, resumed, killed in the middle of a line, resumed again."""
    work = tmp_path / 'work'
    write_run(work, '20260101_000000', range(1, 4), missing_val=3)
    write_run(work, '20260101_000100', range(3, 5), resume=True, cut=30)
    write_run(work, '20260101_000200', range(5, 7), resume=True)
    log = analyze_logs.read_log(str(work))
    assert log.curve('loss')[0] == list(range(1, 13))
    assert log.curve('accuracy/top1')[0] == [1, 2, 3, 5, 6]  # that of 4 was cut
    assert analyze_logs.read_log(str(work / '20260101_000100')).curve('loss')[0] == [5, 6, 7, 8]


def test_a_fresh_start_forgets_the_runs_before(tmp_path):
    work = tmp_path / 'work'
    write_run(work, '20260101_000000', range(1, 4))
    write_run(work, '20260101_000100', range(1, 3))
    assert analyze_logs.read_log(str(work)).curve('accuracy/top1')[0] == [1, 2]


def test_one_legend_entry_for_each_log(tmp_path, monkeypatch):
    from matplotlib.figure import Figure
    entries = []
    legend = Figure.legend
    monkeypatch.setattr(Figure, 'legend', lambda figure, handles, labels, **kwargs: (
        entries.extend(labels), legend(figure, handles, labels, **kwargs)))
    names = [str(write_run(tmp_path, name, range(1, 4))) for name in ('a', 'b')]
    logs = [analyze_logs.read_log(name) for name in names]
    analyze_logs.draw(logs, ['loss', 'accuracy/top1', 'time', 'loss_cls'], tmp_path / 'curves.png')
    assert entries == names
    assert Image.open(tmp_path / 'curves.png').format == 'PNG'
    assert [path.name for path in tmp_path.glob('*.*')] == ['curves.png']


def test_values_that_are_not_finite(tmp_path):
    run = write_run(tmp_path, 'a', range(1, 3))
    scalars = run / 'vis_data/scalars.json'
    scalars.write_text(scalars.read_text().replace('98.0', 'NaN'))
    log = analyze_logs.read_log(str(scalars))
    assert log.curve('loss') == ([1, 3, 4], [99., 97., 96.])


@pytest.mark.parametrize('arguments, words', [
    (('nowhere', ), '"nowhere" is no log'),
    (('good', '--keys', 'loss', 'los'), '--keys los: not in the logs. They have: loss loss_cls time'),
    (('good', '--out', 'curves.pdf'), '--out "curves.pdf"'),
    (('empty', ), '"empty" is empty'),
    (('broken', ), 'scalars.json, line 2'),
    (('bare', '--out', 'curves.png'), 'neither a loss nor a validation. Name --keys: they have lr'),
])
def test_refused(arguments, words, tool, tmp_path, capfd):
    write_run(tmp_path / 'good', 'run', range(1, 3))
    write_run(tmp_path / 'empty', 'run', range(0))
    bare = write_run(tmp_path / 'bare', 'run', range(1, 3)) / 'vis_data/scalars.json'
    bare.write_text('{"lr": 0.1, "iter": 1, "step": 1}\n')
    broken = write_run(tmp_path / 'broken', 'run', range(1, 3)) / 'vis_data/scalars.json'
    lines = broken.read_text().splitlines()
    broken.write_text('\n'.join([lines[0], lines[1][:20], *lines[2:]]))
    with pytest.raises(SystemExit) as stop:
        tool(SCRIPT, *arguments)
    assert stop.value.code == 2
    error = capfd.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith('error: ') and words in error[0]
    shutil.rmtree(tmp_path / 'good')
    assert not list(tmp_path.glob('curves*'))


@pytest.mark.parametrize('key, best', [
    ('cross_entropy', 1.), ('error/top1', 1.), ('val_loss', 1.), ('mae', 1.), ('accuracy/top1', 3.), ('maetrics', 3.)])
def test_best_is_least_where_less_is_better(key, best):
    log = analyze_logs.Log('run', val=[{'step': step, key: value} for step, value in enumerate((3., 1., 2.), 1)])
    assert float(analyze_logs.table([log], [key]).splitlines()[1].split()[2]) == best
