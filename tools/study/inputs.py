"""What the runs of a grid need on the disk: data, and the nets that their bases start from."""
import sys
from pathlib import Path

from runs import ROOT, Run

from mmscalenet.engine import UsageError

sys.path += [str(ROOT / 'tools'), str(ROOT / 'tools/dataset_converters')]

from reproduce import reproduce, starts_from  # noqa: E402

#: Of the detectors and segmentors: small, for many runs, and tested on many.
SCENES = dict(out='data/study_scenes', train=12000, val=600, size=112)


def prepare_inputs(runs: list[Run], data: Path) -> Path:
    """Makes what is missing, in the folders of the working directory that the configs name.

    Args:
        runs (list[Run]): The runs.
        data (Path): Folder of Fashion-MNIST, prepared if it is missing.

    Returns:
        Path: The folder of Fashion-MNIST.

    Raises:
        UsageError: If the data cannot be had.
    """
    from prepare_fashion_mnist import prepare

    from mmscalenet.datasets.writing import write_fashion_scenes
    try:
        data = prepare(data)
    except OSError as error:
        raise UsageError(str(error)) from error
    for config in {run.config: run.declared for run in runs}.values():
        if Path(config.train_dataloader.dataset.data_root) == Path(SCENES['out']):
            write_fashion_scenes(source=data, **SCENES)
        if not Path(config.get('checkpoint', ROOT)).exists():
            for start in starts_from(Path(config.filename)):
                reproduce(start)
    return data
