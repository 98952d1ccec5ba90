"""tools/model_converters/to_plain.py: the same predictions from the libraries' own classes and tools, without us."""
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from parents import PARENTS, build_scalenet, flatten, image, randomise
from trained import write_checkpoint

from mmscalenet.apis import Inferencer
from mmscalenet.deployment.plain_backbone import make_plain, plain_state
from mmscalenet.engine import UsageError

sys.path.append(str(Path(__file__).resolve().parents[1] / 'test_tools'))
from test_new_style_config import CONFIG  # noqa: E402

TOOL = 'model_converters/to_plain.py'
ADAPTER = dict(type='ParallelAdapter')

#: A process in which mmscalenet cannot be imported: each library's own functions predict from the pairs of files.
STOCK = '''
import json, pickle, sys
sys.modules['mmscalenet'] = None
import mmdet.apis, mmpretrain, mmseg.apis
import torch
torch.set_num_threads(1)
task = json.load(open('task.json'))
results = {}
for name, (config, checkpoint, image) in task.items():
    if name == 'cls':
        model = mmpretrain.get_model(config, pretrained=checkpoint, device='cpu')
        results[name] = mmpretrain.ImageClassificationInferencer(model)(image)[0]['pred_scores']
    elif name == 'det':
        model = mmdet.apis.init_detector(config, checkpoint, device='cpu')
        found = mmdet.apis.inference_detector(model, image).pred_instances
        results[name] = {key: found[key].numpy() for key in ('bboxes', 'scores', 'masks')}
    else:
        model = mmseg.apis.init_model(config, checkpoint, device='cpu')
        results[name] = mmseg.apis.inference_model(model, image).seg_logits.data.numpy()
    assert type(model.backbone).__module__.split('.')[0] == dict(cls='mmpretrain', det='mmdet', seg='mmseg')[name]
pickle.dump(results, open('results.pkl', 'wb'))
'''


@pytest.fixture
def pairs(cls_fields, det_fields, seg_fields, write_config, tiny_data, tmp_path):
    """Of each task: config, checkpoint, image."""
    cls_fields['model']['backbone'].update(layer_scale_init_value=0.1, gate=0.5, unshare='norms')
    cls_fields['model']['backbone'] |= dict(init_cfg=dict(type='Pretrained', checkpoint='not/there.pth'))
    det_fields['model']['test_cfg'] = dict(rcnn=dict(score_thr=0., max_per_img=5))
    # mmseg's functions want it
    seg_fields['test_pipeline'] = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    seg_fields['model']['decode_head'] |= dict(type='UPerHead', in_channels=[8, 16, 32, 64], in_index=[0, 1, 2, 3],
                                               pool_scales=(1, 2, 3, 6))
    del seg_fields['model']['decode_head']['num_convs']
    result = {}
    for name, fields, folder, classes in (('cls', cls_fields, 'cls/class0/0.png', ('a', 'b')),
                                          ('det', det_fields, 'det/images/0.png', ('red', 'green')),
                                          ('seg', seg_fields, 'seg/images/0.png', ('none', 'red', 'green'))):
        config, checkpoint = write_config(fields, name), tmp_path / f'{name}.pth'
        write_checkpoint(config, checkpoint, classes=classes)
        result[name] = [str(config), str(checkpoint), str(tiny_data / folder)]
    return result


def test_stock_tools_predict_the_same(pairs, tool, shell, tmp_path, capsys):
    expected, plain = {}, {}
    for name, (config, checkpoint, path) in pairs.items():
        tool(TOOL, config, checkpoint, '--out', f'plain_{name}', '--shape', 64)
        assert 'without mmscalenet' in capsys.readouterr().out
        plain[name] = [f'plain_{name}/{name}_plain.py', f'plain_{name}/{name}_plain.pth', path]
        assert 'mmscalenet.' not in (tmp_path / plain[name][0]).read_text()
        (expected[name], ) = Inferencer(config, checkpoint, 'cpu')([path])
    (tmp_path / 'stock.py').write_text(STOCK)
    (tmp_path / 'task.json').write_text(json.dumps(plain))
    done = shell(sys.executable, 'stock.py')
    assert done.returncode == 0, done.stderr[-2000:]
    results = pickle.loads((tmp_path / 'results.pkl').read_bytes())
    close = dict(rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(results['cls'], expected['cls'].pred_score, **close)
    np.testing.assert_allclose(results['seg'], expected['seg'].seg_logits.data, rtol=1e-4, atol=1e-4)
    found = expected['det'].pred_instances
    assert len(found)
    np.testing.assert_allclose(results['det']['bboxes'], found.bboxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(results['det']['scores'], found.scores, **close)
    assert (results['det']['masks'] == np.asarray(found.masks)).mean() > 0.999


CASES = {
    'mmpretrain-vit': [
        (dict(), dict(arch=dict(embed_dims=24, num_layers=8, num_heads=2, feedforward_channels=58))),
        (dict(depth=5, out_indices=[1, 3], layer_scale_init_value=0.1),
         dict(arch=dict(embed_dims=24, num_layers=5, num_heads=2, feedforward_channels=58), out_indices=[2, 4])),
        (dict(adapter=dict(type='LoRA'), gate=0.5, drop_path_rate=0.3, frozen_stages=1),
         dict(arch=dict(embed_dims=24, num_layers=8, num_heads=2, feedforward_channels=48), drop_path_rate=0.3)),
        (dict(adapter=dict(type='LoRA'), layer_cfgs=dict(ffn_type='swiglu_fused')),
         dict(arch=dict(embed_dims=24, num_layers=8, num_heads=2, feedforward_channels=48))),
        # at the base's depth nothing is added
        (dict(layer_map='middle_cycle', inject=True, depth=4), dict()),
    ],
    'mmpretrain-distilled': [(dict(share=False, unshare=None), dict(type='DistilledVisionTransformer'))],
    'mmpretrain-swin': [
        (dict(scale=[1, 1, 2, 1], with_cp=True), dict(arch=dict(embed_dims=8, depths=[2, 2, 8, 2],
                                                               num_heads=[1, 2, 2, 4]), with_cp=True)),
        (dict(stage_cfgs=dict(block_cfgs=dict(ffn_cfgs=dict(act_cfg=dict(type='GELU'))))), dict()),
    ],
    'mmdet-swin': [(dict(frozen_stages=1), dict(mlp_ratio=5, depths=[4, 4, 8, 4], frozen_stages=1)),
                   (dict(adapter=None), dict(mlp_ratio=4))],
    # 4 + 3 / 8 of 8 channels, 4 + 7 / 16 of 16, ...: the widest decides
    'mmseg-swin': [(dict(layer_map='interleaved', unshare='norms', gate='1/N'), dict(depths=[4, 4, 8, 4]))],
    'mmseg-vit': [(dict(out_indices=[0, 3]), dict(num_layers=8, mlp_ratio=3, out_indices=[1, 7]))],
}


@pytest.mark.parametrize('name, options, expected', [
    pytest.param(name, *case, id=f'{name}-{i}') for name, cases in CASES.items() for i, case in enumerate(cases)])
def test_backbones(name, options, expected):
    """Built by the parent's class, loaded strictly."""
    parent, arguments, base = PARENTS[name]
    config = dict(arguments, type='mmscalenet.ScaleNet', base=base, **options)
    grown = randomise(build_scalenet(name, **options)).eval()
    outputs = flatten(grown(image()))
    library = name.split('-')[0]
    plain = make_plain(grown, config, library)
    assert {key: plain.get(key) for key in expected} == expected
    if 'vit' in name:
        assert 'frozen_stages' not in plain
    with DefaultScope.overwrite_default_scope(library):
        twin = MODELS.build(plain)
    twin.eval()  # which returns None
    assert type(twin) is parent
    twin.load_state_dict(plain_state(grown.state_dict(), twin))
    for one, other in zip(flatten(twin(image())), outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    rates = [block.ffn.dropout_layer.drop_prob for block in flatten_blocks(twin)
             if hasattr(block.ffn.dropout_layer, 'drop_prob')]
    assert max(rates, default=0.) == pytest.approx(plain['drop_path_rate'])


def flatten_blocks(backbone: torch.nn.Module) -> list:
    return list(backbone.layers) if hasattr(backbone, 'layers') else [b for s in backbone.stages for b in s.blocks]


def test_another_librarys_backbone():
    grown = randomise(build_scalenet('mmpretrain-swin'))
    assert make_plain(grown, PARENTS['mmpretrain-swin'][1], 'mmdet')['type'] == 'mmpretrain.SwinTransformer'


@pytest.mark.parametrize('options, words', [
    (dict(layer_map='middle_cycle', inject=True, gate='1/N', scale=3), 'backbone.layers: inject=True adds the input'),
    (dict(adapter=dict(ADAPTER, act_cfg=dict(type='ReLU'))), 'position 0: a ParallelAdapter cannot be folded'),
    (dict(window_size=2, with_cls_token=False, out_type='avg_featmap', global_positions=[3]),
     'position 0 attends within windows'),
    (dict(num_register_tokens=4), 'num_register_tokens=4: the library has no ViT with register tokens'),
    (dict(scale=1, depth=1), 'depth=1 is not allowed'),
])
def test_refused(options, words, cls_fields, write_config, tool, tmp_path, capsys):
    backbone = cls_fields['model']['backbone']
    backbone.update(options)
    backbone['arch']['num_layers'] = 4
    depth = backbone.pop('depth', None)
    config = write_config(cls_fields)
    write_checkpoint(config, tmp_path / 'best.pth')
    with pytest.raises(SystemExit):
        tool(TOOL, config, tmp_path / 'best.pth', '--out', 'plain', *(('--depth', depth) if depth else ()))
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith('error: ') and words in error[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['best.pth', 'tiny.py']


def test_a_plain_model(cls_fields, write_config, tool, tmp_path, capsys):
    """Nothing to do; and the folder must not be there."""
    backbone = cls_fields['model']['backbone']
    del backbone['scale']
    backbone['type'] = 'VisionTransformer'
    config = write_config(cls_fields)
    write_checkpoint(config, tmp_path / 'best.pth')
    for out, words in (('plain', 'it is plain already'), ('.', 'exists already')):
        with pytest.raises(SystemExit):
            tool(TOOL, config, tmp_path / 'best.pth', '--out', out)
        assert words in capsys.readouterr().err


def test_what_else_needs_mmscalenet(cls_fields, write_config, tool, tmp_path, capsys):
    """What is of the training goes or stays, and the model loads in either case."""
    cls_fields['custom_hooks'] = [dict(type='mmscalenet.DepthHook', mode='elastic'), dict(type='EMAHook')]
    cls_fields['optim_wrapper'] |= dict(constructor='mmscalenet.LayerDecayOptimWrapperConstructor',
                                        paramwise_cfg=dict(layer_decay_rate=0.9))
    cls_fields['val_evaluator'] = [dict(type='mmscalenet.CrossEntropy')]
    config = write_config(cls_fields)
    write_checkpoint(config, tmp_path / 'best.pth')
    tool(TOOL, config, tmp_path / 'best.pth', '--out', 'plain')
    said = capsys.readouterr().out
    assert 'note: optim_wrapper.constructor' in said and 'note: mmscalenet is still needed for mmscalenet.Cross' in said
    cfg = Config.fromfile(tmp_path / 'plain/tiny_plain.py')
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook'] and 'constructor' not in cfg.optim_wrapper
    assert cfg.custom_imports == dict(imports=['mmscalenet'], allow_failed_imports=True)
    assert Path(cfg.load_from) == tmp_path / 'plain/tiny_plain.pth'


def test_a_config_of_classes(tiny_data, tool, tmp_path):
    config = tmp_path / 'new.py'
    config.write_text(CONFIG.format(data=str(tiny_data / 'cls')))
    write_checkpoint_of_classes(config, tmp_path / 'best.pth')
    tool(TOOL, config, tmp_path / 'best.pth', '--out', 'plain')
    cfg = Config.fromfile(tmp_path / 'plain/new_plain.py')
    assert cfg.model.backbone.type == 'SwinTransformer' and 'mmscalenet' not in cfg.pretty_text
    path = str(tiny_data / 'cls/class0/0.png')
    (one, ), (other, ) = (Inferencer(str(tmp_path / name), tmp_path / file, 'cpu')([path]) for name, file in (
        ('new.py', 'best.pth'), ('plain/new_plain.py', 'plain/new_plain.pth')))
    torch.testing.assert_close(one.pred_score, other.pred_score)


def write_checkpoint_of_classes(config: Path, path: Path) -> None:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = randomise(MODELS.build(Config.fromfile(config).model))
    torch.save(dict(state_dict=model.state_dict()), path)


def test_refused_where_it_would_differ(tmp_path):
    grown = build_scalenet('mmpretrain-swin', stage_cfgs=dict(block_cfgs=[dict()] * 8), scale=1)
    config = dict(PARENTS['mmpretrain-swin'][1], stage_cfgs=dict(block_cfgs=[dict()] * 8))
    with pytest.raises(UsageError, match='block_cfgs=.* is a list'):
        make_plain(grown, config, 'mmpretrain')
