"""tools/grow.py --same-flops: real runs, grown in the middle, whose rest costs what the base's rest costs."""
import json
import re
from pathlib import Path

import pytest
from test_train_options import refused

BACKBONES = dict(cls='mmscalenet.ScaleNetDeiT', det='mmscalenet.ScaleNetSwin', seg='mmscalenet.ScaleNetSwin')
#: Constant, then falling.
WSD = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
       dict(type='LinearLR', start_factor=1., end_factor=0.01, by_epoch=False, begin=30)]


@pytest.fixture
def base(request, write_config, tool, tmp_path):
    """A function that trains the base of a task and returns its config, and the folder of its checkpoints."""

    def train(task: str, **fields) -> tuple[Path, Path]:
        config = request.getfixturevalue(f'{task}_fields') | fields
        config['model']['backbone'].update(type=BACKBONES[task], scale=1, adapter=None)
        path = write_config(config, 'base')
        tool('train.py', path, '--no-validate')
        return path, tmp_path / 'work_dirs/base'

    return train


def iterations(kept: int, total: int) -> dict:
    return dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=total, val_interval=total),
                param_scheduler=WSD, log_processor=dict(by_epoch=False),
                default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                                   checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=kept)))


def grow(tool, capsys, *arguments) -> tuple[float, int, float, str]:
    """What it says: cost of a step, end of the run, part of the base's FLOPs, and the arguments of train.py."""
    capsys.readouterr()
    tool('grow.py', *arguments, '--same-flops', '--out', 'grown')
    said = capsys.readouterr().out
    cost, end, spent = re.search(r'costs ([\d.]+) times.* it runs to (\d+), .*: ([\d.]+) of the FLOPs', said).groups()
    return float(cost), int(end), float(spent), re.findall(r'train.py (.* --resume .*)$', said, re.M)[0]


def logged(folder: str) -> list[dict]:
    lines = [json.loads(line) for path in sorted(Path(folder).glob('*/vis_data/scalars.json'))
             for line in path.read_text().splitlines()]
    return [line for line in lines if 'lr' in line]


def deit_by_hand(positions: int, d: int = 16, hidden: int = 32, n: int = 17) -> int:
    """Multiply-adds of the tiny DeiT: patches, qkv, two products of attention, projection and FFN; the head."""
    position = n * d * 3 * d + 2 * n * n * d + n * d * d + 2 * n * d * hidden
    return 16 * 8 * 8 * 3 * d + positions * position + d * 2


def test_a_classifier_in_iterations(base, tool, capsys):
    config, folder = base('cls', **iterations(25, 40))
    cost, end, spent, command = grow(tool, capsys, config, folder / 'iter_25.pth', '--options', 'share=False',
                                     'adapter=None')
    by_hand = deit_by_hand(4) / deit_by_hand(2)
    assert cost == pytest.approx(by_hand, abs=1e-3) and end == 25 + round(15 / by_hand)
    assert spent == pytest.approx((end - 25) * by_hand / 15, abs=2e-3)
    tool('train.py', *command.split(), '--no-validate', '--work-dir', 'resumed')
    lines, whole = logged('resumed'), logged(str(folder))
    assert [line['step'] for line in lines] == list(range(26, end + 1))
    # constant until the decay, which takes its part of the rest, and as deep at its end
    constant = [line for line in lines if line['lr'] == pytest.approx(0.01)]
    assert len(constant) == pytest.approx((30 - 25) / by_hand, abs=1.5)
    assert lines[-1]['lr'] == pytest.approx(whole[-1]['lr'], rel=0.6) and lines[-1]['lr'] < 0.0035


def test_a_detector_in_epochs(base, tool, capsys):
    """Whole epochs, for no more than the base spends."""
    config, folder = base('det', train_cfg=dict(by_epoch=True, max_epochs=10), param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
        dict(type='MultiStepLR', milestones=[8], gamma=0.1)])
    cost, end, spent, command = grow(tool, capsys, folder, folder / 'epoch_6.pth', '--shape', 64)
    assert 1 < cost < 2 and 0.5 < spent <= 1 and end % 2 == 0, 'two iterations are an epoch'
    tool('train.py', *command.split(), '--no-validate', '--work-dir', 'resumed')
    lines = logged('resumed')
    assert lines[0]['epoch'] == 7 and lines[-1]['epoch'] == end // 2 < 10
    assert lines[0]['lr'] == pytest.approx(0.01) and lines[-1]['lr'] == pytest.approx(0.001)


def test_a_segmentor_costs_what_its_losses_cost(base, tool, capsys):
    config, folder = base('seg', **iterations(20, 40))
    cost, end, _, _ = grow(tool, capsys, config, folder / 'iter_20.pth')
    assert 1 < cost < 2 and end == 20 + round(20 / cost)


@pytest.mark.parametrize('checkpoint, more, message', [
    ('iter_40.pth', {}, 'the run is at its end'),
    ('iter_25.pth', dict(param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=False)]), 'phase of constant rate')])
def test_what_has_no_rest_of_the_same_flops_is_refused(checkpoint, more, message, base, tool, capsys):
    config, folder = base('cls', **iterations(25, 40) | more)
    assert message in refused(tool, capsys, 'grow.py', config, folder / checkpoint, '--same-flops', '--out', 'grown')
    assert not Path('grown').exists()


def test_weights_alone_are_refused(base, tool, capsys):
    config, folder = base('cls', default_hooks=dict(checkpoint=dict(
        type='CheckpointHook', interval=1, save_optimizer=False)))
    assert 'weights alone' in refused(tool, capsys, 'grow.py', config, folder / 'epoch_2.pth', '--same-flops', '--out',
                                      'grown')
