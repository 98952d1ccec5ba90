"""1,000 steps in float32 and in bfloat16: does the loss stay what it is?

    python tests/numerics.py  # writes docs/results/numerics; on two cores about 20 minutes

Real trainings of the study's nets on Fashion-MNIST (``tools/train.py``, ``--amp``, batches of 32), at scale 2 and 4,
whole nets run in a cycle with adapters, under NonFiniteHook. At scale 2 a second seed in float32 says how far chance
takes the loss.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'docs/results/numerics'
CONFIGS = dict(deit='deit-micro_8k_fashion-mnist.py', swin='swin-micro_3600i_fashion-mnist.py')
CASES = [(family, scale) for family in CONFIGS for scale in (2, 4)]
#: How far the loss of bfloat16 may be from that of float32, as a part of it.
BAND = 0.03
STEPS = 1000
CONFIG = '''
_base_ = '{base}'
model = dict(backbone=dict(scale={scale}, adapter=dict(type='ParallelAdapter', _delete_=True)))
train_dataloader = dict(batch_size=32, dataset=dict(data_root='{data}'))
val_dataloader = dict(dataset=dict(data_root='{data}'))
test_dataloader = dict(dataset=dict(data_root='{data}'))
param_scheduler = [dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end={warmup})]
train_cfg = dict(max_iters={steps}, val_interval={steps})
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval={steps}))
custom_hooks = [dict(type='mmscalenet.NonFiniteHook'), dict(type='mmscalenet.CurveHook')]
randomness = dict(seed={seed})
'''


def train(family: str, scale: int, amp: bool, seed: int, data: Path, steps: int = STEPS) -> dict:
    """Train, and say what it came to: mean loss of the last fifth, loss and top-1 of the test set."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / 'numerics.py'
        base = ROOT / 'configs/study' / CONFIGS[family]
        config.write_text(CONFIG.format(base=base, scale=scale, data=data, seed=seed, steps=steps, warmup=steps // 10))
        done = subprocess.run([sys.executable, ROOT / 'tools/train.py', config, '--work-dir', folder] + ['--amp'] * amp,
                              capture_output=True, text=True, env=os.environ | {'OMP_NUM_THREADS': '1'})
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        lines, = Path(folder).glob('*/vis_data/scalars.json')
        losses = [line['loss'] for line in map(json.loads, lines.read_text().splitlines()) if 'loss' in line]
        end = json.loads((Path(folder) / 'curve.jsonl').read_text().splitlines()[-1])
    assert len(losses) == steps
    return dict(family=family, scale=scale, type='bfloat16' if amp else 'float32', seed=seed, steps=steps,
                train_loss=statistics.mean(losses[-steps // 5:]), test_loss=end['cross_entropy'],
                top1=end['accuracy/top1'])


def distance(one: dict, two: dict) -> float:
    """Of the training losses, as a part of the second."""
    return abs(one['train_loss'] / two['train_loss'] - 1)


def table(lines: list[dict]) -> str:
    rows = [f"""# bfloat16 against float32

{STEPS:,} steps on Fashion-MNIST, batches of 32, whole nets run 2 and 4 times over in a cycle, with adapters; mean loss
of the last fifth. Neither a NaN nor an infinity appeared (NonFiniteHook). The loss of bfloat16 is to stay within
{BAND:.0%} of that of float32. Made by `python tests/numerics.py` from [numerics.jsonl](numerics.jsonl);
`python -m pytest -m slow tests/test_engine/test_numerics.py` fails outside.

| Net | seed | float32 | bfloat16 | distance | test loss, float32 | bfloat16 |
|---|---|---|---|---|---|---|"""]
    of = {(line['family'], line['scale'], line['type'], line['seed']): line for line in lines}
    for family, scale, kind, seed in of:
        if kind == 'float32':
            full, half = of[family, scale, kind, seed], of.get((family, scale, 'bfloat16', seed))
            other = [f'{half["train_loss"]:.4f}', f'{distance(half, full):.1%}'] if half else ['', '']
            rows.append(' | '.join([f'| {family} x{scale}', str(seed), f'{full["train_loss"]:.4f}', *other,
                                    f'{full["test_loss"]:.4f}', f'{half["test_loss"]:.4f} |' if half else '|']))
    outside = sorted({f'{family} x{scale}' for family, scale, kind, seed in of if kind == 'bfloat16' and distance(
        of[family, scale, kind, seed], of[family, scale, 'float32', seed]) >= BAND})
    rows += ['', f'Outside the band: {", ".join(outside) or "none"}.']
    return '\n'.join(rows) + '\n'


def main() -> None:
    sys.path.append(str(ROOT / 'tools/dataset_converters'))
    from prepare_fashion_mnist import prepare
    data, lines = prepare(ROOT / 'data/fashion_mnist'), []
    RESULTS.mkdir(exist_ok=True)
    runs = [(family, scale, amp, seed) for family, scale in CASES
            for amp, seed in ((False, 0), (True, 0), *([(False, 1)] if scale == 2 else []))]
    runs += [('deit', 4, False, 1), ('deit', 4, True, 1)]  # is it chance that it is outside?
    with ThreadPoolExecutor(2) as pool:  # each waits for a process of one thread
        for line in pool.map(lambda run: train(*run, data), runs):
            lines.append(line)
            print(line, flush=True)
    (RESULTS / 'numerics.jsonl').write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    (RESULTS / 'README.md').write_text(table(lines))


if __name__ == '__main__':
    main()
