import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

# One thread: the models are tiny, and a process that is forked from one with OpenMP threads hangs in the next product.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest  # noqa: E402
import torch  # noqa: E402
from yapf.yapflib import yapf_api  # noqa: E402

# A run lays out its config six times, for the log and the checkpoints, which takes longer than its two steps.
yapf_api.FormatCode = lambda text, **style: (text, True)

import mmengine.dataset.base_dataset  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

torch.set_num_threads(1)
# Every data set collects garbage when it is built, which takes half a second after all that tests import.
mmengine.dataset.base_dataset.gc = SimpleNamespace(collect=lambda: None)
for folder in ('', 'test_configs', 'test_models'):  # helper modules of the tests
    sys.path.insert(0, str(Path(__file__).parent / folder))

pytest_plugins = ['tiny_configs', 'entry_scripts']


@pytest.fixture(autouse=True)
def _same_start():
    """No test sees the random numbers or the default scope of the one before."""
    torch.manual_seed(0)
    DefaultScope._instance_dict.clear()


@pytest.fixture
def fresh_compiler():
    """torch.compile as in a process of its own: after other sizes it compiles for any size, which takes minutes."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def logged():
    """What mmengine's logger says, from INFO on."""
    # a new one each time: 'current' is the one that was made last, and a runner may have made one in between
    logger = MMLogger.get_instance(f'logged-{uuid4()}', logger_name='logged')
    records = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: records.append(record.getMessage())
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)
