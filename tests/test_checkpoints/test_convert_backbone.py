"""The converter as it is used: a process that reads a file and writes one."""
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoint_zoo import SOURCES, TAKERS, TARGETS, maps

from mmscalenet.checkpoints import CheckpointError

SCRIPT = Path(__file__).parents[2] / 'tools/model_converters/convert_backbone.py'


def run(*arguments, cwd):
    command = [sys.executable, '-W', 'ignore', str(SCRIPT)]
    return subprocess.run([*command, *map(str, arguments)], cwd=cwd, text=True, capture_output=True,
                          env=dict(os.environ, OMP_NUM_THREADS='1'))


@pytest.mark.parametrize('source, to, target, process', [
    ('official_swin', 'mmdet', 'mmdet_swin', True), ('official_swin', 'mmseg', 'mmseg_swin', False),
    ('whole_detector', 'mmpretrain', 'mmpretrain_swin', False), ('timm_deit', 'mmseg', 'mmseg_vit', False),
    ('mmseg_vit', 'mmpretrain', 'mmpretrain_vit', False)])
def test_converted_file_loads_by_name(source, to, target, process, tmp_path, monkeypatch):
    """Without us: the library's own parent takes the file by name and computes what the source computes."""
    family, make, _ = SOURCES[source]
    file, expected = make()
    torch.save(file, tmp_path / 'source.pth')
    if process:
        done = run('source.pth', 'converted.pth', '--to', to, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    else:
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(SCRIPT))['main']('source.pth', 'converted.pth', to)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['converted.pth', 'source.pth']

    state = torch.load(tmp_path / 'converted.pth', weights_only=True)['state_dict']
    model = TARGETS[target](**TAKERS[family][target])
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith(('norm0', 'norm1')) or name.endswith('relative_position_index') for name in missing)
    out = maps(model, family)[-1]
    torch.testing.assert_close(out, expected[-1], atol=1e-5, rtol=1e-5)


def test_deit3_keeps_its_rows():
    """One for each patch and none for the class token, as mmpretrain's DeiT3 has them."""
    file = SOURCES['deit3'][1]()[0]
    state = runpy.run_path(str(SCRIPT))['convert_backbone'](file)
    assert state['pos_embed'].equal(file['pos_embed']) and state['pos_embed'].shape[1] == 16


def _changed(**changes):
    return {**SOURCES['timm_deit'][1]()[0], **changes}


@pytest.mark.parametrize('file, reason', [
    (_changed(**{'norm.weight': torch.full((32, ), float('nan'))}), r'NaN or inf in ln1\.weight'),
    (_changed(**{'blocks.1.attn.q_norm.weight': torch.ones(8)}), r'no ViT.* has layers\.1\.attn\.q_norm\.weight$'),
    (_changed(**{'blocks.1.attn.q_bias': torch.ones(32)}), 'a BEiT, whose attention no ViT has'),
], ids=['NaN', 'another attention', 'BEiT'])
def test_what_the_libraries_would_not_take(file, reason):
    """They pass over names that they do not know."""
    with pytest.raises(CheckpointError, match=reason):
        runpy.run_path(str(SCRIPT))['convert_backbone'](file)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    torch.save(SOURCES['timm_deit'][1]()[0], tmp_path / 'good.pth')
    (tmp_path / 'page.pth').write_text('<html></html>')
    torch.save({'conv.weight': torch.ones(1)}, tmp_path / 'other.pth')
    (tmp_path / 'there.pth').write_text('mine')
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {'good.pth', 'page.pth', 'other.pth', 'there.pth'}
    assert (tmp_path / 'there.pth').read_text() == 'mine'


def test_refusal_is_one_line(folder):
    done = run('page.pth', 'new.pth', cwd=folder)
    assert done.returncode == 1
    assert 'page.pth: this is a web page' in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize('source, target, reason', [
    ('good.pth', 'there.pth', 'there.pth: exists already'), ('none.pth', 'new.pth', 'none.pth: No such file'),
    ('other.pth', 'new.pth', 'other.pth: no ViT or Swin')])
def test_refusals_write_nothing(source, target, reason, folder):
    with pytest.raises((CheckpointError, OSError), match=reason):
        runpy.run_path(str(SCRIPT))['main'](source, target)


def test_interrupted_write_leaves_nothing(folder, monkeypatch):
    def full(*args, **kwargs):
        args[1].write_bytes(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(OSError, match='No space'):
        runpy.run_path(str(SCRIPT))['main']('good.pth', 'new.pth')
