"""bfloat16 over many steps: no NaN, and the loss of float32."""
import sys
from itertools import product
from pathlib import Path

import pytest
from numerics import BAND, CASES, RATES, TYPES, distance, mean, train

sys.path.append(str(Path(__file__).resolve().parents[2] / 'tools/dataset_converters'))
from prepare_fashion_mnist import prepare  # noqa: E402


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('family, scale', CASES)
def test_bfloat16_trains_as_float32_does(family, scale, tmp_path):
    data = prepare(tmp_path / 'fashion_mnist')
    lines = [train(family, scale, kind, rate, data) for kind, rate in product(TYPES, RATES)]
    assert mean(lines, 'float32', 'top1') > 60  # it learns
    assert distance(lines) < BAND
