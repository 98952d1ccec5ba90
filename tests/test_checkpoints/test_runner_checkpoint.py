"""A checkpoint that a real runner wrote, with everything that is in one."""
import pytest
import torch
from checkpoint_zoo import mmpretrain_vit, randomise
from mmengine.runner import CheckpointLoader, Runner
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

import mmscalenet
from mmscalenet.checkpoints import load_pretrained, read_checkpoint
from mmscalenet.engine.checkpoint_reading import read_safely

BACKBONE = dict(arch=dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=128), img_size=32,
                patch_size=8)


class Noise(Dataset):
    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return 4

    def __getitem__(self, index):
        image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index % 2))


def train(work_dir, backbone, epochs=1, **kwargs):
    """With momentum, a scheduler, EMA and logs; returns the runner and the checkpoint's path."""
    loader = dict(batch_size=2, num_workers=0, dataset=Noise(), sampler=dict(type='DefaultSampler', shuffle=False),
                  collate_fn=dict(type='default_collate'))
    runner = Runner(
        model=dict(type='mmpretrain.ImageClassifier', backbone=backbone,
                   head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=2, in_channels=32),
                   data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', num_classes=2)),
        work_dir=str(work_dir), train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=.1)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                           checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='EMAHook', momentum=.3)], default_scope='mmpretrain',
        experiment_name=f'{work_dir}{epochs}', log_level='ERROR',
        **dict(dict(param_scheduler=dict(type='MultiStepLR', milestones=[1])), **kwargs))
    runner.train()
    return runner, f'{work_dir}/epoch_{epochs}.pth'


def test_runner_checkpoint(tmp_path):
    runner, path = train(tmp_path / 'base', dict(type='mmpretrain.VisionTransformer', **BACKBONE))
    content = read_checkpoint(path)
    assert {'meta', 'state_dict', 'ema_state_dict', 'message_hub', 'optimizer', 'param_schedulers'} <= set(content)
    averaged = torch.load(path, weights_only=False)['state_dict']

    for model in (mmpretrain_vit(), mmscalenet.expand(mmpretrain_vit(), scale=2)):
        report = load_pretrained(randomise(model, seed=1), path)
        assert len(report.loaded) == len(list(mmpretrain_vit().parameters()))
        assert all(value.equal(averaged[f'backbone.{name}']) for name, value in model.state_dict().items()
                   if '.positions.' not in name)
        assert all(name.startswith('head.') for name in report.ignored)
    trained = runner.model.backbone.layers[0].attn.qkv.weight
    assert not trained.equal(averaged['backbone.layers.0.attn.qkv.weight'])  # the average, not the last weights


def test_runner_checkpoint_of_an_expanded_model(tmp_path):
    config = dict(type='mmscalenet.ScaleNetDeiT', scale=2, **BACKBONE)
    _, path = train(tmp_path / 'expanded', config)
    again = mmscalenet.ScaleNetDeiT(
        scale=2, init_cfg=dict(type='Pretrained', checkpoint=path), **BACKBONE)
    again.init_weights()
    saved = torch.load(path, weights_only=False)['state_dict']
    assert all(value.equal(saved[f'backbone.{name}']) for name, value in again.state_dict().items())


# OneCycleLR keeps a function, which the reader does not rebuild and the resumed run makes itself
@pytest.mark.parametrize('scheduler', [
    dict(type='MultiStepLR', milestones=[1]),
    dict(type='OneCycleLR', eta_max=.1, total_steps=4, by_epoch=False),
    [dict(type='LinearLR', start_factor=.1, end=2, by_epoch=False), dict(type='CosineAnnealingLR', T_max=2, begin=1)],
], ids=['steps', 'one cycle', 'warmup, cosine'])
def test_a_run_read_safely_goes_on_as_one_without_a_break(tmp_path, monkeypatch, scheduler):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    read_safely()
    backbone = dict(type='mmpretrain.VisionTransformer', **BACKBONE)
    straight, path = train(tmp_path / 'straight', backbone, epochs=2, param_scheduler=scheduler)
    resumed, again = train(tmp_path / 'resumed', backbone, epochs=2, param_scheduler=scheduler, resume=True,
                           load_from=str(tmp_path / 'straight/epoch_1.pth'))
    assert resumed.iter == 4 and resumed.message_hub.get_scalar('train/loss').data[0].size == 4
    for name in ('train/loss', 'train/lr'):
        expected, found = (runner.message_hub.get_scalar(name).data[0] for runner in (straight, resumed))
        assert found.tolist() == expected.tolist()
    # with the keys and values of one that mmengine itself reads
    one, other = (torch.load(file, weights_only=False) for file in (path, again))
    assert one.keys() == other.keys()
    for part in ('state_dict', 'ema_state_dict'):
        assert all(value.equal(other[part][name]) for name, value in one[part].items())
    assert str(one['optimizer']) == str(other['optimizer'])
    assert [sorted(state) for state in one['param_schedulers']] == \
        [sorted(state) for state in other['param_schedulers']]
