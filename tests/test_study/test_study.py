"""tools/study: a tiny grid, trained for real on 600 squares, killed in the middle and continued."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from squares import small_data

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'tools/study'), str(Path(__file__).parent)]

import compare  # noqa: E402
import lines  # noqa: E402
import report  # noqa: E402
from grids import GRIDS  # noqa: E402
from run import Study  # noqa: E402
from tiny_study import tiny_grid  # noqa: E402
from training import Training  # noqa: E402

pytestmark = pytest.mark.timeout(900)  # a busy machine is no failure
CONFIG = f"""
_base_ = {str(ROOT / 'configs/study/deit-micro_8k_fashion-mnist.py')!r}
model = dict(
    backbone=dict(arch=dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)),
    head=dict(in_channels=16))
train_dataloader = dict(batch_size=16)
train_cfg = dict(max_iters=100, val_interval=10)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=5))
"""


def write_inputs(folder: Path) -> Path:
    (folder / 'data').mkdir()
    for name, content in small_data().items():
        (folder / 'data' / name).write_bytes(content)
    config = folder / 'deit-tiny.py'
    config.write_text(CONFIG)
    return config


@pytest.fixture(scope='module', params=[pytest.param(count, marks=pytest.mark.slow) for count in (3, 5)])
def study(request, tmp_path_factory):
    """The folder of a study that was killed: while the grown model ran and, of the whole grid, while the trunk did."""
    folder = tmp_path_factory.mktemp('study')
    config = write_inputs(folder)
    command = [sys.executable, str(ROOT / 'tests/test_study/tiny_study.py'), str(config), str(folder / 'work'),
               str(folder / 'data'), str(folder / 'lines'), str(request.param)]
    env = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    trunk, grown = (folder / 'work/tiny' / name for name in ('base_s3', 'grown_s3'))
    kills = [grown / 'curve.jsonl'] if request.param == 3 else [trunk / 'iter_30.pth', grown / 'curve.jsonl']
    for reached in kills:
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        while not reached.exists():
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (folder / f'{reached.parent.name}.jsonl').write_bytes(
            b''.join(path.read_bytes() for path in (folder / 'lines').glob('*')))
    subprocess.run(command, env=env, check=True)
    return folder


@pytest.fixture
def records(study):
    return {record['arm']: record for record in lines.read(study / 'lines/tiny.jsonl')}


def test_killed_runs_go_on(study):
    """The trunk goes on from its checkpoint, and nothing that was finished runs again."""
    before = (study / 'grown_s3.jsonl').read_text()
    assert [json.loads(line)['arm'] for line in before.splitlines()] == ['base', 'again']
    text = (study / 'lines/tiny.jsonl').read_text()
    assert text.startswith(before)  # to the byte: times included
    arms = [json.loads(line)['arm'] for line in text.splitlines()]
    assert arms == ['base', 'again', 'grown', 'early', 'grown, restarted'][:len(arms)] and len(arms) >= 3
    if (study / 'base_s3.jsonl').exists():
        assert (study / 'base_s3.jsonl').read_text() == ''
        assert 'resume: going on from' in (study / 'work/tiny/base_s3/train.log').read_text()


def test_a_fork_that_changes_nothing_is_the_trunk(records):
    """Weights, moments, schedule, order of the images and their augmentation all go on; so does a killed trunk."""
    base, again = records['base']['curve'], records['again']['curve']
    assert [point['step'] for point in base] == list(range(0, 101, 10))
    assert [point['step'] for point in again] == [50, 75, 100]
    for point in (again[0], again[-1]):
        twin = next(other for other in base if other['step'] == point['step'])
        assert (point['test_loss'], point['top1']) == (twin['test_loss'], twin['top1'])


def test_equal_flops(records):
    """Every arm spends the base's FLOPs, to half a step of its own."""
    budget = records['base']['train_flops']
    assert budget == 3 * 2 * records['base']['multiply_adds'] * 100
    for arm in records.keys() - {'base', 'early'}:
        phases = records[arm]['phases']
        assert records[arm]['train_flops'] == sum(phase['train_flops'] for phase in phases)
        assert abs(records[arm]['train_flops'] - budget) <= 3 * phases[-1]['multiply_adds'], arm
    if 'grown, restarted' in records:
        assert [phase['steps'] for phase in records['grown, restarted']['phases'][:2]] == [50, 30]
    assert 20 < records['grown']['steps'] < 30
    for record in records.values():
        assert record['curve'][-1]['flops'] == record['train_flops']


def test_the_count_of_multiply_adds(records):
    """By hand: patches, 3 blocks over 17 tokens, the head's matrix, for 16 images."""
    block = 17 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 17 * 17 * 16
    assert records['base']['multiply_adds'] == 16 * (16 * 49 * 16 + 3 * block + 16 * 10)
    assert records['grown']['multiply_adds'] - records['base']['multiply_adds'] == 16 * 3 * block


def test_lines_are_complete(records):
    for record in records.values():
        assert record['wall'] >= record['cpu'] * 0.5 > 0 and record['peak_memory'] > 10**8
        assert record['family'] == 'deit' and len(record['commit']) == 40 and record['parameters'] > 0
        assert all(0 < point['test_loss'] < 5 and 0 <= point['top1'] <= 100 for point in record['curve'])
        assert all(point['train_loss'] > 0 for point in record['curve'][1:])
    assert records['grown']['options'] == {'model.backbone.scale': 2} and records['grown']['parent'] == 'base_s3'


def test_the_schedule_of_a_fork(study):
    """The grown net's own decay: stable at first, falling over its last 15 % of the budget, to a thousandth."""
    run = tiny_grid(str(study / 'deit-tiny.py'))[2]
    steps = [json.loads(line) for log in (study / 'work/tiny/grown_s3').glob('*/vis_data/scalars.json')
             for line in log.read_text().splitlines()]
    rates = {line['step']: line['lr'] for line in steps if 'lr' in line}
    fall = round(0.15 * 100 * run._base.multiply_adds / run.multiply_adds)
    assert rates.keys() == set(range(run.first + 1, run.end + 1))
    for step, rate in rates.items():
        done = max(0, step - 1 - (run.end - fall)) / (fall - 1)
        assert rate == pytest.approx(2e-3 * (1 - done * (1 - 1e-3)), rel=1e-3), step


def test_report(study, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['report.py', '--lines', str(study / 'lines')])
    report.main()
    text = (study / 'tables.md').read_text()
    assert '| again | 1 |' in text and '| +0.00 | +0.0000 | base |' in text
    index = (study / 'figures.md').read_text()
    for name in ('curves_tiny.png', 'gains_tiny.png'):
        assert (study / name).stat().st_size > 5000
        assert f'| {name} |' in index
    assert 'lines/tiny.jsonl' in index


def test_the_published_tables_are_made_from_the_published_lines():
    folder = ROOT / 'docs/results/growth'
    records = [record for path in sorted((folder / 'lines').glob('*.jsonl')) for record in lines.read(path)]
    studies = list(dict.fromkeys(record['study'] for record in records))
    assert report.tables(compare.Arms(records), studies) == (folder / 'tables.md').read_text()


def test_interval():
    """A known case: differences 1, 2, 3 have the mean 2 and, with t = 4.303 at 2 degrees of freedom, +- 2.484."""
    estimate = compare.Estimate.of([1., 2., 3.])
    assert (estimate.mean, estimate.std) == (2, 1)
    assert estimate.half == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
    assert compare.Estimate.of([1.]).half is None


def test_pairs_are_of_the_same_seed():
    def record(arm: str, seed: int, loss: float) -> dict:
        return dict(study='g', arm=arm, seed=seed, opponent='base', opponent_study='g',
                    curve=[dict(test_loss=9.), dict(test_loss=loss)])

    arms = compare.Arms([record('base', 1, 5.), record('base', 0, 1.), record('x', 0, 2.), record('x', 2, 7.),
                         record('x', 1, 8.)])
    gain = arms.gain('g', 'x', 'test_loss')
    assert (gain.mean, gain.count) == (2, 2)
    assert arms.gain('g', 'base', 'test_loss') is None


def test_a_torn_line_is_passed_over(tmp_path, capsys):
    path = tmp_path / 'lines.jsonl'
    path.write_text('{"arm": "a", "seed": 0}\n{"arm": "b", "se')
    lines.append(path, dict(arm='c', seed=1))
    assert [record['arm'] for record in lines.read(path)] == ['a', 'c']
    assert 'lines.jsonl:2 is no whole line' in capsys.readouterr().out


def test_arms_of_one_seed_leave_one_trunk(tmp_path, capsys):
    """A trunk whose checkpoint was lost and that comes to other weights than its line's is not grown from."""
    base, again = tiny_grid(str(write_inputs(tmp_path)))[:2]
    folder = tmp_path / 'work/tiny/base_s3'
    folder.mkdir(parents=True)
    (folder / 'digest').write_text(base.digest)
    torch.save({}, folder / 'iter_50.pth')
    points = [dict(step=step, top1=50., test_loss=loss) for step, loss in ((0, 2.3), (50, 1.5))]
    line = dict(study='tiny', arm='base', seed=3, digest=base.digest, wall=1., curve=points,
                phases=[dict(train_flops=1)])
    lines.append(tmp_path / 'lines/tiny.jsonl', line)
    for loss, differs in ((1.5, False), (1.5000001, True)):
        (folder / 'curve.jsonl').write_text(''.join(
            json.dumps({'step': step, 'accuracy/top1': 50., 'cross_entropy': value}) + '\n'
            for step, value in ((0, 2.3), (50, loss), (60, 9.))))
        study = Study([again], tmp_path / 'work', tmp_path / 'data', tmp_path / 'lines')
        assert study.has_other_weights(base) is differs
    study.work(1)
    assert study.failed == [again] and not (tmp_path / 'work/tiny/again_s3/train.log').exists()
    assert 'base_s3 was trained again for it' in capsys.readouterr().out


def test_progress_is_what_was_logged_last(tmp_path):
    """By the run that went on last, also where it was killed in the middle of a line."""
    training = Training(GRIDS['t2_deit_crops']()[1], tmp_path, tmp_path)
    assert training.step() == training.run.first > 0
    for name, text in (('1', '{"step": 4000}\n'), ('2', '{"lr": 1.2, "step": 2900}\n{"lr": 1.1, "step": 3000}\n{"st')):
        log = training.folder / f'{name}/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(text)
    assert training.step() == 3000


# that of DINOv2 counts nets of 22 M parameters
@pytest.mark.parametrize('grid', [pytest.param(grid, marks=[pytest.mark.slow] * ('dinov2' in grid)) for grid in GRIDS])
def test_grids(grid):
    """Names and contents differ, seeds come one after the other, and every run spends what it says."""
    runs = GRIDS[grid]()
    assert len({run.name for run in runs}) == len({run.digest for run in runs}) == len(runs)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    trunks = {}  # by config
    for run in runs:
        trunk = trunks.setdefault(run.config, run.parent or run)
        if run.seed == 0 and run.equal == 'flops' and run.until == 1:
            assert abs(run.flops_at(run.end) - trunk.flops_at(trunk.end)) <= 3 * run.multiply_adds, run.name
        if run.parent:
            kept = run.parent.train_config().default_hooks.checkpoint.interval
            assert run.start == run.parent.end or (run.start < run.parent.end and run.start % kept == 0)


def test_deeper_bases_have_the_same_budget():
    """As the base of one block, to half a percent."""
    bases = [run for run in (GRIDS['t2_deit_crops']()[0], *GRIDS['t2_deit_deeper']()) if not run.parent]
    spent = [run.flops_at(run.end) for run in bases]
    assert len(spent) == 10 and max(spent) < 1.005 * spent[0] and min(spent) > 0.995 * spent[0]


def test_a_batch_from_memory(tmp_path):
    """Without augmentation the images themselves; with it, each a shifted or mirrored part, the same at every call."""
    from mmscalenet.registry import DATASETS

    write_inputs(tmp_path)
    fields = dict(type='InMemoryFashionMNIST', data_root=str(tmp_path / 'data'), download=False)
    plain, moved = DATASETS.build(fields), DATASETS.build(fields | dict(padding=2, flip_prob=0.5, indices=200))
    content = small_data()['train-images-idx3-ubyte']
    images = np.frombuffer(content[16:], np.uint8).reshape(-1, 28, 28)
    labels = small_data()['train-labels-idx1-ubyte'][8:]
    chosen = [5, 3, 599, 5]
    batch = plain.__getitems__(chosen)
    assert torch.equal(batch['inputs'], torch.from_numpy(images[chosen])[:, None])
    assert [int(sample.gt_label) for sample in batch['data_samples']] == [labels[i] for i in chosen]

    assert len(moved) == 200
    chosen = list(range(100))
    first, again = moved.__getitems__(chosen)['inputs'], moved.__getitems__(chosen)['inputs']
    assert torch.equal(first, again)
    assert not torch.equal(first[:50], moved.__getitems__(chosen[:50])['inputs'])
    shifts = {}
    for i, image in zip(chosen, first[:, 0].numpy(), strict=True):
        padded = np.pad(images[i], 2)
        found = [(y, x, flip) for y in range(5) for x in range(5) for flip in (1, -1)
                 if np.array_equal(padded[y:y + 28, x:x + 28][:, ::flip], image)]
        assert len(found) == 1
        shifts[found[0]] = i
    assert len(shifts) > 30  # of 50 that there are


def test_images_are_made_once_and_alike_in_every_run(tmp_path):
    """Those of training draw from numpy's generator, which is somewhere else in a run that goes on."""
    from mmscalenet.registry import DATASETS

    write_inputs(tmp_path)
    fields = dict(type='InMemoryFashionMNIST', data_root=str(tmp_path / 'data'), download=False, padding=2, indices=20,
                  pipeline=[dict(type='mmscalenet.PasteOnPhotograph', size=40)])
    np.random.seed(1)
    first = DATASETS.build(fields)
    np.random.seed(2)
    cached = fields | dict(cache=str(tmp_path / 'made'))
    datasets = (first, first, *(DATASETS.build(each) for each in (fields, cached, cached)))
    file, = (tmp_path / 'made').iterdir()
    batches = [dataset.__getitems__(range(20))['inputs'] for dataset in datasets]
    assert batches[0].shape == (20, 3, 40, 40) and all(torch.equal(batch, batches[0]) for batch in batches)
    after = np.random.rand()
    np.random.seed(2)
    assert after == np.random.rand()  # it takes none of the run's own numbers
    DATASETS.build(cached | dict(indices=10))
    DATASETS.build(cached | dict(pipeline=[dict(type='mmscalenet.PasteOnPhotograph', size=41)]))
    assert len(list((tmp_path / 'made').iterdir())) == 3  # nothing is taken for what it is not
    np.save(file, np.zeros_like(np.load(file)))
    assert not DATASETS.build(cached).images.any()  # it is read
    middle = first.images[:, 2:-2, 2:-2]
    assert len({image.tobytes() for image in middle}) == 20 and middle.std() > 20
    paste = DATASETS.build(fields | dict(padding=0)).pipeline.transforms[0]
    np.random.seed(0)
    for image, record in zip(middle, first.data_list, strict=True):
        assert np.array_equal(image, paste(dict(record))['img'])


def test_cross_entropy():
    from mmscalenet.registry import METRICS

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 5, generator=generator) * 3
    labels = torch.randint(5, (40, ), generator=generator)
    metric = METRICS.build(dict(type='CrossEntropy'))
    for part in (slice(0, 30), slice(30, 40)):
        metric.process(None, [dict(pred_score=score, gt_label=label[None]) for score, label in
                              zip(logits[part].softmax(1), labels[part], strict=True)])
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    assert metric.evaluate(40)['cross_entropy'] == pytest.approx(expected, rel=1e-5)
    metric.process(None, [dict(pred_score=torch.tensor([1., 0.]), gt_label=torch.tensor([1]))])
    assert 80 < metric.evaluate(1)['cross_entropy'] < 90  # not infinite
