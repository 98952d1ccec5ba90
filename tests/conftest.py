import sys
from pathlib import Path

import pytest
import torch

for folder in ('', 'test_configs'):  # helper modules of the tests
    sys.path.insert(0, str(Path(__file__).parent / folder))


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
