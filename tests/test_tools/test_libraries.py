"""tools/train.py and tools/test.py with a config of each task library."""
import pickle

import pytest
import torch

from mmscalenet.apis import Inferencer

LAST = {'cls': 'epoch_1.pth', 'det': 'epoch_1.pth', 'seg': 'iter_2.pth'}
METRIC = {'cls': 'accuracy/top1', 'det': 'coco/segm_mAP', 'seg': 'mIoU'}
IMAGES = {'cls': 8, 'det': 4, 'seg': 4}


@pytest.fixture(params=['cls', 'det', 'seg'])
def library(request, write_config):
    fields = request.getfixturevalue(f'{request.param}_fields')
    if request.param == 'cls':
        fields['train_cfg'] = dict(by_epoch=True, max_epochs=1)
    return request.param, write_config(fields, request.param)


def test_train_and_test(library, tool, tmp_path, capfd):
    task, config = library
    tool('train.py', config)
    work_dir = tmp_path / 'work_dirs' / task  # the default: named after the config
    checkpoint = work_dir / LAST[task]
    assert (work_dir / 'last_checkpoint').read_text() == str(checkpoint)
    state = torch.load(checkpoint, map_location='cpu', weights_only=False)['state_dict']
    assert any('layers.positions' in name or 'blocks.positions' in name for name in state), 'the model is no ScaleNet'
    output = capfd.readouterr().out
    assert METRIC[task] in output, 'validation did not run'

    tool('test.py', config, checkpoint, '--work-dir', tmp_path / 'test', '--out', tmp_path / 'out/results.pkl',
         '--show-dir', 'shown')
    output = capfd.readouterr()
    assert METRIC[task] in output.out
    assert 'Could not safely load' not in output.out + output.err
    results = pickle.loads((tmp_path / 'out/results.pkl').read_bytes())
    assert len(results) == IMAGES[task]
    if task == 'det':
        masks = results[0]['pred_instances']['masks']
        assert all('counts' in mask for mask in masks), 'masks are not written as RLE'
    if task == 'seg':
        assert results[0]['pred_sem_seg']['data'].shape[-2:] == (64, 64) and 'seg_logits' not in results[0]
    assert len(list((tmp_path / 'shown').rglob('*.png'))) == IMAGES[task]

    tta = ['test.py', config, checkpoint, '--work-dir', tmp_path / 'tta', '--tta']
    if task == 'det':
        with pytest.raises(SystemExit):
            tool(*tta)
        assert 'merges boxes only' in capfd.readouterr().err
        tool(*tta, '--cfg-options', 'model.roi_head.mask_head=None', 'test_evaluator.metric=bbox')
        assert 'coco/bbox_mAP' in capfd.readouterr().out
    else:
        tool(*tta)
        assert METRIC[task] in capfd.readouterr().out


def test_tta_is_the_mean_of_both_flips(cls_fields, write_config, tool, tmp_path, tiny_data):
    """Of the trained model, head included: the reference runs each flip by itself."""
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    checkpoint = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    tool('test.py', config, checkpoint, '--tta', '--out', 'tta.pkl')
    results = pickle.loads((tmp_path / 'tta.pkl').read_bytes())
    inferencer = Inferencer(config, checkpoint, device='cpu')
    images = [inferencer.load(path) for path in sorted((tiny_data / 'cls').rglob('*.*'))]
    for image, result in zip(images, results, strict=True):
        flips = [sample.pred_score for sample in inferencer([image, image[:, ::-1].copy()])]
        torch.testing.assert_close(result['pred_score'], sum(flips) / 2)


def test_amp(library, tool, tmp_path, monkeypatch, capfd):
    """Autocast is on while the model runs, the weights stay float32; a detector needs a GPU for it."""
    task, config = library
    if task == 'det' and not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            tool('train.py', config, '--amp', '--no-validate')
        assert 'NMS, RoIAlign' in capfd.readouterr().err
        return
    dtypes = set()

    def linear(*args, **kwargs):
        output = torch._C._nn.linear(*args, **kwargs)
        dtypes.add(output.dtype)
        return output

    monkeypatch.setattr(torch.nn.functional, 'linear', linear)
    tool('train.py', config, '--amp', '--no-validate')
    assert dtypes & {torch.bfloat16, torch.float16}
    checkpoint = torch.load(tmp_path / 'work_dirs' / task / LAST[task], map_location='cpu', weights_only=False)
    weights = [value for value in checkpoint['state_dict'].values() if value.is_floating_point()]
    assert {value.dtype for value in weights} == {torch.float32}
    assert all(value.isfinite().all() for value in weights)
