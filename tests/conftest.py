import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # helper modules of the tests


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
