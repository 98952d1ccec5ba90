"""A grid of a few seconds a run, in a process of its own: ``python tiny_study.py CONFIG WORK_DIR DATA OUT RUNS``."""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / 'tools/study'))

import torch
from run import Study
from runs import Run

SCALE = {'model.backbone.scale': 2}
RESTART = dict(at=0.8, restart=True, decay=1., opponent='early')


def tiny_grid(config: str) -> list[Run]:
    """A trunk, the same run from its middle, grown ones, and one from a base that had finished."""
    common = dict(grid='tiny', seed=3, config=config)
    base = Run(arm='base', **common)
    early = Run(arm='early', parent=base, at=0.5, until=0.8, decay=0.1, **common)
    return [
        base,
        Run(arm='again', parent=base, at=0.5, **common),
        Run(arm='grown', parent=base, at=0.5, options=SCALE, **common),
        early,
        Run(arm='grown, restarted', parent=early, options=SCALE, **RESTART, **common),
    ]


def main(config: str, work_dir: str, data: str, out: str, count: str) -> None:
    torch.set_num_threads(1)
    runs = tiny_grid(config)[:int(count)]
    study = Study(runs, Path(work_dir), Path(data), Path(out), say_every=0.)
    study.work(1)
    assert not study.failed, study.failed


if __name__ == '__main__':
    main(*sys.argv[1:])
