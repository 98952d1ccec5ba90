"""Every family leaves as an ONNX file of one size; the export compares it with PyTorch by itself."""
import pytest
from families import FAMILIES
from parents import randomise
from test_any_backbone import build
from torch import nn

from mmscalenet.deployment import Computed, write_onnx
from mmscalenet.deployment.plain_backbone import make_plain
from mmscalenet.engine import UsageError

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
QUICK = ('mmpretrain-convnext', 'mmpretrain-beit', 'mmseg-mscan', 'mmseg-mit')


class Alone(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES])
def test_one_size(name, tmp_path):
    model = Alone(randomise(build(name, gate=0.5))).eval()
    side = FAMILIES[name][1].get('img_size', 64)
    written = write_onnx(Computed(model), tmp_path / 'x.onnx', 3, (side, side))
    assert max(written.differences.values()) < 1e-5 and (tmp_path / 'x.onnx').exists()


def test_no_plain_class_is_known_of_other_families():
    with pytest.raises(UsageError, match='a grown ConvNeXt cannot be written as a plain one'):
        make_plain(build('mmpretrain-convnext'), {}, 'mmpretrain')
