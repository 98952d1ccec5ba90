"""A config in mmengine's newer style: classes instead of names, and no default scope."""
import json

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from mmscalenet.apis import Inferencer

CONFIG = '''
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import CrossEntropyLoss, GlobalAveragePooling, ImageClassifier, LinearClsHead
from torch.optim import SGD

from mmscalenet.models import ScaleNetSwin

model = dict(
    type=ImageClassifier,
    data_preprocessor=dict(num_classes=2, mean=[127.] * 3, std=[60.] * 3),
    backbone=dict(
        type=ScaleNetSwin, scale=2, img_size=32, patch_size=2, window_size=4, pad_small_map=True,
        arch=dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2])),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=2, in_channels=64, loss=dict(type=CrossEntropyLoss)))

train_dataloader = dict(
    batch_size=4, num_workers=0,
    dataset=dict(
        type=CustomDataset, data_root={data!r}, pipeline=[dict(type=LoadImageFromFile), dict(type=PackInputs)]),
    sampler=dict(type=DefaultSampler, shuffle=False))
val_dataloader = test_dataloader = train_dataloader
val_evaluator = test_evaluator = dict(type=Accuracy, topk=(1, ))
optim_wrapper = dict(type=AmpOptimWrapper, dtype='bfloat16', optimizer=dict(type=SGD, lr=0.01))
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=1))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
'''


def test_a_config_of_classes(tiny_data, tool, tmp_path, capfd):
    config = tmp_path / 'new_style.py'
    config.write_text(CONFIG.format(data=str(tiny_data / 'cls')))
    tool('train.py', config)
    assert 'WholeCheckpointHook' in capfd.readouterr().out
    checkpoint = tmp_path / 'work_dirs/new_style/epoch_1.pth'
    state = torch.load(checkpoint, map_location='cpu', weights_only=False)['state_dict']
    assert 'backbone.stages.0.blocks.positions.layer_map' in state
    assert Config.fromfile(tmp_path / 'work_dirs/new_style/new_style.py').optim_wrapper.type == 'AmpOptimWrapper'
    capfd.readouterr()

    tool('test.py', config, checkpoint, '--work-dir', 'test', '--tta')
    assert 'accuracy/top1' in capfd.readouterr().out
    assert Config.fromfile(tmp_path / 'test/new_style.py').model.type == 'AverageClsScoreTTA'
    tool('test.py', config, checkpoint, '--work-dir', 'test', '--show-dir', 'shown')
    assert len(list((tmp_path / 'shown').rglob('*.png'))) == 8

    tool('analysis_tools/get_flops.py', config, '--scales', '1', '2')
    assert 'new_style, scale 2' in capfd.readouterr().out
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / 'image.png')
    tool('visualization/image_demo.py', 'image.png', config, checkpoint, '--out', 'demo')
    assert json.loads((tmp_path / 'demo/image.png.json').read_text())['label'] in (0, 1)
    assert Inferencer(Config.fromfile(config), checkpoint, 'cpu').classes == ['class0', 'class1']
