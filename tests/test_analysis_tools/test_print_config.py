"""tools/analysis_tools/print_config.py."""
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = 'analysis_tools/print_config.py'


@pytest.mark.parametrize('config', [
    'configs/scalenet_deit_in1k.py', 'configs/mask_rcnn_scalenet_swin.py', 'configs/upernet_scalenet_swin.py'])
def test_the_file_written_is_the_whole_config(config, tool, tmp_path, capfd):
    tool(SCRIPT, ROOT / config, '--save-path', 'new/whole.py')
    text = (tmp_path / 'new/whole.py').read_text()
    assert '_base_' not in text
    assert Config.fromfile(tmp_path / 'new/whole.py').to_dict() == Config.fromfile(ROOT / config).to_dict()
    assert capfd.readouterr().out.strip() == text.strip()


def test_options(tool, tmp_path, capfd):
    tool(SCRIPT, ROOT / 'configs/mask_rcnn_scalenet_swin.py', '--save-path', 'whole.py', '--cfg-options',
         'model.backbone.scale=3', 'work_dir=elsewhere')
    cfg = Config.fromfile(tmp_path / 'whole.py')
    assert cfg.model.backbone.scale == 3 and cfg.work_dir == 'elsewhere' and 'launcher' not in cfg


@pytest.mark.parametrize('arguments, words', [
    (('configs/mask_rcnn_scalenet_swim.py', ), 'Did you mean'),
    (('configs/mask_rcnn_scalenet_swin.py', '--save-path', 'whole.txt'), '--save-path "whole.txt"'),
])
def test_refused(arguments, words, tool, tmp_path, capfd):
    with pytest.raises(SystemExit):
        tool(SCRIPT, ROOT / arguments[0], *arguments[1:])
    output = capfd.readouterr()
    assert words in output.err and not output.out
    assert not list(tmp_path.iterdir())
