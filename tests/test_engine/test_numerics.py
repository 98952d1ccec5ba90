"""bfloat16 over many steps: no NaN, and the loss of float32."""
import sys
from pathlib import Path

import pytest
from numerics import BAND, CASES, distance, train

sys.path.append(str(Path(__file__).resolve().parents[2] / 'tools/dataset_converters'))
from prepare_fashion_mnist import prepare  # noqa: E402


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('family, scale', [
    # docs/results/numerics: after 1,000 steps at a constant rate bfloat16 is 7 % above float32 in the DeiT, 4 % below
    # in the Swin, with no NaN in either; why is not known
    pytest.param(*case, marks=pytest.mark.xfail(reason='outside the band')) if case[1] == 4 else case
    for case in CASES])
def test_bfloat16_trains_as_float32_does(family, scale, tmp_path):
    data = prepare(tmp_path / 'fashion_mnist')
    full, half = (train(family, scale, amp, 0, data) for amp in (False, True))
    assert full['top1'] > 60  # it learns
    assert distance(half, full) < BAND
