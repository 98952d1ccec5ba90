"""tools/grow.py: what was trained grows, is tested as it was, and trains on."""
import pickle
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from test_new_style_config import CONFIG
from test_train_options import refused
from test_unsafe_checkpoints import Attack

from mmscalenet.apis import load_model
from mmscalenet.engine.grown_config import factor_rates, read_base, write_grown

#: Keys of the tiny models' own backbones, with which a plain parent is built.
PARENTS = dict(cls='VisionTransformer', det='SwinTransformer', seg='SwinTransformer')


@pytest.fixture
def trained(request, write_config, tool, tmp_path):
    """A function that trains the plain base of a task and returns its config and checkpoint."""

    def train(task: str, **fields) -> tuple[Path, Path]:
        config = request.getfixturevalue(f'{task}_fields') | fields
        config['model']['backbone'].pop('scale')
        config['model']['backbone']['type'] = PARENTS[task]
        path = write_config(config, f'base_{task}')
        tool('train.py', path, '--no-validate')
        return path, sorted((tmp_path / f'work_dirs/base_{task}').glob('*.pth'))[-1]

    return train


def predictions(tool, config: Path, checkpoint: Path) -> list:
    tool('test.py', config, checkpoint, '--out', 'predictions.pkl')
    return pickle.loads(Path('predictions.pkl').read_bytes())


def assert_same(one: object, two: object) -> None:
    if isinstance(one, torch.Tensor):
        # Swin's windows attend through our own attention, equal to rounding
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)


@pytest.mark.parametrize('task', PARENTS)
def test_it_starts_as_the_base_and_trains_on(task, trained, tool, tmp_path, capsys):
    config, checkpoint = trained(task)
    before = predictions(tool, config, checkpoint)
    capsys.readouterr()
    # from the work directory, into a folder that is nested and not there
    tool('grow.py', checkpoint.parent, checkpoint, '--scale', 2, '--options', 'gate=0.', '--out', 'new/grown')
    said = capsys.readouterr().out
    assert re.search(r'^before +\d', said, re.M) and re.search(r'^after +\d', said, re.M) and 'from depth' in said
    assert sorted(path.name for path in Path('new/grown').iterdir()) == [f'base_{task}_grown.p{end}' for end in
                                                                        ('th', 'y')]
    assert sorted(path.name for path in Path('new').iterdir()) == ['grown']
    grown, weights = Path(f'new/grown/base_{task}_grown.py'), Path(f'new/grown/base_{task}_grown.pth')
    assert len(grown.read_text().splitlines()) < 12
    assert Config.fromfile(grown).optim_wrapper.paramwise_cfg.custom_keys == {'.gate': dict(lr_mult=10.)}
    after = predictions(tool, grown, weights)
    assert len(before) > 1
    assert_same(before, after)
    command, resumed = re.findall(r'^    python \S+train.py (.*)$', said, re.M)
    tool('train.py', *command.split(), '--no-validate')
    assert (tmp_path / f'work_dirs/base_{task}_grown').exists()
    more = 'train_cfg.max_iters=3' if task == 'seg' else 'train_cfg.max_epochs=4'
    tool('train.py', *resumed.split(), '--no-validate', '--work-dir', 'resumed', '--cfg-options', more)
    last = sorted(Path('resumed').glob('*.pth'))
    assert last and 'optimizer' in torch.load(last[-1], weights_only=False)


def test_options_and_a_moved_folder(trained, tool, tmp_path):
    config, checkpoint = trained('cls')
    tool('grow.py', config, checkpoint, '--scale', '3/2', '--options', 'layer_map=middle_cycle', 'core=1,1', 'gate=1/N',
         'adapter=None', '--out', 'grown', '--name', 'deeper')
    cfg = Config.fromfile('grown/deeper.py')
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.scale, list(backbone.core), backbone.gate, backbone.adapter) \
        == ('mmscalenet.ScaleNetDeiT', 1.5, [1, 1], '1/N', None)
    assert 'paramwise_cfg' not in cfg.optim_wrapper  # a gate that starts above 0 opens at any rate
    assert Path(cfg.load_from).samefile('grown/deeper.pth')
    Path('grown').rename('moved')
    assert Path(Config.fromfile('moved/deeper.py').load_from).samefile('moved/deeper.pth')


def test_what_plan_expansion_prints_is_taken(trained, tool, tmp_path, capsys, monkeypatch):
    """Between one pair of quotes, with the class that it names; and the train command is of the kind that ran."""
    config, checkpoint = trained('cls')
    monkeypatch.setattr(sys, 'orig_argv', ['python', '/usr/bin/mmscalenet', 'grow'])
    tool('grow.py', config, checkpoint, '--options', "type='mmscalenet.ScaleNetDeiT', scale=3, layer_map='cyclic', "
         "adapter=dict(type='ParallelAdapter', ratio=5/24)", 'gate=0.', '--out', 'grown')
    backbone = Config.fromfile('grown/base_cls_grown.py').model.backbone
    assert (backbone.scale, backbone.layer_map, backbone.gate) == (3, 'cyclic', 0)
    assert backbone.adapter == dict(type='ParallelAdapter', ratio=5 / 24)
    assert re.findall(r'^    mmscalenet train grown/base_cls_grown.py', capsys.readouterr().out, re.M)
    tool('grow.py', config, checkpoint, '--options', 'adapter.ratio=1/4', '--out', 'narrow')
    backbone = Config.fromfile('narrow/base_cls_grown.py').model.backbone
    assert backbone.adapter == dict(type='ParallelAdapter', ratio=0.25)


def test_it_says_how_gates_get_a_rate_beside_one_of_the_backbone(trained, tool, write_config, tmp_path, capsys):
    config, checkpoint = trained('cls')
    base = tmp_path / 'slow.py'
    base.write_text(f"_base_ = {str(config)!r}\noptim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(\n"
                    '    backbone=dict(lr_mult=0.1))))\n')
    tool('grow.py', base, checkpoint, '--options', 'gate=0.', '--out', 'grown')
    key, number = re.search(r"key of its own.*'(\S+)': dict\(lr_mult=10.\), and so on for (\d+)",
                            capsys.readouterr().err).groups()
    weights = torch.load('grown/slow_grown.pth', weights_only=False)['state_dict']
    assert key in weights and int(number) == sum(name.endswith('.gate') for name in weights)


DECAYS = dict(optimizer=dict(weight_decay=0.1))
OPENS = dict(lr_mult=10., decay_mult=0.)


@pytest.mark.parametrize('changed, keys', [
    (dict(), {'.gate': dict(lr_mult=10.), '.inject': dict(lr_mult=10.)}),  # mmengine refuses a factor of no decay
    (DECAYS, {'.gate': OPENS, '.inject': OPENS}),
    (DECAYS | dict(constructor='mmscalenet.LayerDecayOptimWrapperConstructor', paramwise_cfg=dict(
        norm_decay_mult=0., custom_keys=dict(aggregate=dict(lr_mult=3.)))), {'.gate': OPENS, '.inject': OPENS}),
    # its own
    (dict(paramwise_cfg=dict(custom_keys={'.gate': dict(lr_mult=3.)})), None),
    (dict(constructor='mmscalenet.LayerDecayOptimWrapperConstructor', paramwise_cfg=dict(gate_lr_mult=3.)), None),
    # would win, being longer
    (dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))), None),
    (dict(constructor='LearningRateDecayOptimWrapperConstructor'), None),  # reads no custom_keys
    (dict(optimizer=None), None),
])
def test_rates_of_gates_and_of_what_is_added_again(changed, keys, cls_fields):
    cfg = Config(cls_fields)
    cfg.merge_from_dict(dict(optim_wrapper=changed))
    said = factor_rates(cfg, dict(gate=0., inject=True))
    assert said == (keys and dict(paramwise_cfg=dict(custom_keys=keys)))
    assert factor_rates(cfg, dict(layer_map='cyclic')) == {}


@pytest.mark.parametrize('paramwise', [None, dict(custom_keys=None), dict(custom_keys=dict(head=dict(lr_mult=2.)))])
def test_the_optimizer_gives_gates_that_rate(paramwise, cls_fields, write_config):
    cls_fields['optim_wrapper'] |= dict(paramwise_cfg=paramwise)
    base = write_config(cls_fields)
    said = factor_rates(Config.fromfile(base), dict(gate=0.))
    write_grown(base.with_name('grown.py'), base.name, dict(model=dict(backbone=dict(gate=0.)), optim_wrapper=said))
    cfg = Config.fromfile(base.with_name('grown.py'))
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    fast = {names[group['params'][0]] for group in optimizer.param_groups if group['lr'] == pytest.approx(0.1)}
    assert fast and fast == {name for name in names.values() if name.endswith('.gate')}


def test_rates_of_what_starts_open(cls_fields):
    cfg = Config(cls_fields)
    assert factor_rates(cfg, dict(gate='1/N')) == factor_rates(cfg, dict(gate=1.)) == {}
    cfg.merge_from_dict(dict(optim_wrapper=DECAYS))
    said = dict(paramwise_cfg=dict(custom_keys={'.gate': dict(decay_mult=0.)}))
    assert factor_rates(cfg, dict(gate='1/N')) == factor_rates(cfg, dict(gate=1.)) == said
    cfg.model.backbone.gate = 0.  # that of the base's config
    assert factor_rates(cfg, {})['paramwise_cfg']['custom_keys']['.gate'] == OPENS
    assert factor_rates(Config(dict(model=cfg.model)), dict(gate=0.)) == {}


def test_a_base_that_is_a_scalenet_gets_adapters_unless_told_otherwise(cls_fields, write_config, tool, tmp_path):
    cls_fields['model']['backbone'].update(scale=1, adapter=None, depth=2)
    tool('train.py', write_config(cls_fields), '--no-validate')
    for out, options, adapter in (('default', [], dict(type='ParallelAdapter')), ('none', ['adapter=None'], None),
                                  ('lora', ['adapter.type=LoRA', 'adapter.rank=2'], dict(type='LoRA', rank=2))):
        tool('grow.py', 'work_dirs/tiny', 'work_dirs/tiny/epoch_3.pth', '--out', out, '--name', 'grown',
             *(['--options', *options] if options else []))
        cfg = Config.fromfile(f'{out}/grown.py')
        assert cfg.model.backbone.adapter == adapter and cfg.work_dir is None and cfg.model.backbone.depth is None
        tool('train.py', f'{out}/grown.py', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')


def test_files_that_the_config_starts_from_are_not_needed(trained, tool, tmp_path):
    config, checkpoint = trained('cls')
    line = "model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='gone.pth')"
    (tmp_path / 'pretrained.py').write_text(f'{config.read_text()}\n{line}\n')
    tool('grow.py', 'pretrained.py', checkpoint, '--out', 'grown')
    tool('train.py', 'grown/pretrained_grown.py', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')


def test_weights_alone(trained, tool, tmp_path, capsys):
    config, checkpoint = trained('cls')
    torch.save(dict(state_dict=torch.load(checkpoint, weights_only=False)['state_dict']), 'weights.pth')
    tool('grow.py', config, 'weights.pth', '--out', 'grown')
    said = capsys.readouterr().out
    assert '--resume' not in said and 'holds weights alone' in said
    tool('train.py', 'grown/base_cls_grown.py', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')


@pytest.mark.parametrize('arguments, message', [
    (['{config}', '{checkpoint}', '--out', 'there'], '"there" exists already'),
    (['{config}', 'none.pth', '--out', 'new'], 'none.pth'),
    (['none.py', '{checkpoint}', '--out', 'new'], 'config "none.py" does not exist'),
    (['empty', '{checkpoint}', '--out', 'new'], 'there is no config in "empty"'),
    (['{config}', '{checkpoint}', '--out', 'new', '--scale', '0.5'], 'scale=0.5 is not allowed'),
    (['{config}', '{checkpoint}', '--out', 'new', '--options', 'gates=0'], 'gates is no option of a ScaleNet'),
    (['{config}', '{checkpoint}', '--out', 'new', '--scale', '3', '--options', 'scale=2'], 'scale is given twice'),
    (['{config}', '{checkpoint}', '--out', 'new', '--options', 'layer_map=zigzag'], "layer_map='zigzag' is unknown"),
    (['{config}', '{other}', '--out', 'new'], 'does not fit'),
    (['{resnet}', '{checkpoint}', '--out', 'new'], 'ResNet, is none that is expanded here'),
    (['{grown}', '{checkpoint}', '--out', 'new'], 'is grown already'),
    (['{config}', '{checkpoint}', '--out', 'new', '--name', 'a/b'], '--name "a/b" is not allowed'),
])
def test_what_is_refused_leaves_nothing(arguments, message, cls_fields, write_config, tool, tmp_path, capsys,
                                        monkeypatch):
    grown = write_config(cls_fields, 'twice')
    cls_fields['model']['backbone'].pop('scale')
    cls_fields['model']['backbone']['type'] = 'VisionTransformer'
    config = write_config(cls_fields, 'base')
    resnet = write_config(cls_fields | dict(model=dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18))),
                          'resnet')
    from mmengine.registry import MODELS, init_default_scope
    init_default_scope('mmpretrain')
    torch.save(dict(state_dict=MODELS.build(Config(cls_fields).model).state_dict()), tmp_path / 'base.pth')
    torch.save(dict(state_dict={'backbone.stem.weight': torch.zeros(1)}), tmp_path / 'other.pth')
    for folder in ('there', 'empty'):
        (tmp_path / folder).mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    names = dict(config=config, checkpoint='base.pth', other='other.pth', resnet=resnet, grown=grown)
    with pytest.raises(SystemExit):
        tool('grow.py', *(argument.format(**names) for argument in arguments))
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_scale_of_the_backbones_own(write_config, cls_fields, tool, tmp_path, capsys):
    cls_fields['model']['backbone'] = dict(type='HorNet', arch='tiny', scale=0.5)
    torch.save(dict(state_dict={}), tmp_path / 'base.pth')
    with pytest.raises(SystemExit):
        tool('grow.py', write_config(cls_fields, 'hornet'), 'base.pth', '--out', 'new')
    assert 'scale=0.5 of the backbone is an argument of its own' in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()


def test_a_run_of_that_name_is_named(trained, tool, tmp_path, capsys):
    """As of the same base grown in another way: both would train in one folder."""
    config, checkpoint = trained('cls')
    for out, options in (('shared', ['adapter=None']), ('copies', ['adapter=None', 'share=False'])):
        if out == 'copies':
            (tmp_path / 'work_dirs' / f'{config.stem}_grown').mkdir()
        tool('grow.py', config, checkpoint, '--options', *options, '--out', out)
        said = f'note: work_dirs/{config.stem}_grown is there already' in capsys.readouterr().err
        assert said == (out == 'copies')


def test_a_run_at_its_end_says_so(trained, tool, tmp_path, capsys):
    config, checkpoint = trained('cls')
    for epoch, ended in ((2, False), (3, True)):
        capsys.readouterr()
        tool('grow.py', config, checkpoint.with_name(f'epoch_{epoch}.pth'), '--out', f'grown{epoch}')
        assert ('which is at its end' in capsys.readouterr().out) is ended


def test_what_cannot_go_on_still_grows(trained, tool, tmp_path, capsys):
    config, checkpoint = trained('cls')
    run = torch.load(checkpoint, weights_only=False)
    run['meta']['cfg'] = "optim_wrapper = dict(optimizer=dict(type='Lion'))"
    torch.save(run, 'lion.pth')
    capsys.readouterr()
    tool('grow.py', config, 'lion.pth', '--out', 'grown')
    printed = capsys.readouterr()
    assert 'the run was trained with Lion' in printed.err and '--resume' not in printed.out
    tool('train.py', 'grown/base_cls_grown.py', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')


def test_imports_of_the_config_are_kept(trained, tool, tmp_path):
    config, checkpoint = trained('cls', custom_imports=dict(imports='json', allow_failed_imports=True))
    tool('grow.py', config, checkpoint, '--out', 'grown')
    assert Config.fromfile('grown/base_cls_grown.py').custom_imports == dict(
        imports=['json', 'mmscalenet'], allow_failed_imports=True)


def test_config_that_a_library_ships(tool, tmp_path, capsys):
    path = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'
    init_default_scope('mmpretrain')
    torch.save(dict(state_dict=MODELS.build(read_base(path).model).state_dict()), 'tiny.pth')
    tool('grow.py', path, 'tiny.pth', '--out', 'grown')
    grown = Path('grown/deit-tiny_4xb256_in1k_grown')
    assert grown.with_suffix('.py').read_text().startswith(f'_base_ = {path!r}\n')
    model = MODELS.build(Config.fromfile(grown.with_suffix('.py')).model)
    model.load_state_dict(torch.load(grown.with_suffix('.pth'), weights_only=False)['state_dict'])
    assert '"mmpretrain::none.py" does not exist' in refused(tool, capsys, 'grow.py', 'mmpretrain::none.py', 'tiny.pth',
                                                              '--out', 'other')


def test_config_of_classes(tiny_data, tool, tmp_path, capsys):
    """A plain config cannot inherit from it; the copy in its work directory is plain."""
    text = CONFIG.replace('type=ScaleNetSwin, scale=2,', 'type=SwinTransformer,').replace(
        'from mmscalenet.models import ScaleNetSwin', 'from mmpretrain.models.backbones import SwinTransformer')
    (tmp_path / 'classes.py').write_text(text.format(data=str(tiny_data / 'cls')))
    tool('train.py', 'classes.py', '--no-validate')
    line = refused(tool, capsys, 'grow.py', 'classes.py', 'work_dirs/classes/epoch_1.pth', '--out', 'grown')
    assert 'newer style' in line and 'Give the work directory' in line
    tool('grow.py', 'work_dirs/classes', 'work_dirs/classes/epoch_1.pth', '--out', 'grown')
    tool('train.py', 'grown/classes_grown.py', '--no-validate')


def test_backbone_of_another_library(det_fields, write_config, tool, tmp_path):
    """mmpretrain's Swin in a detector, whose third stage grows."""
    det_fields['model']['backbone'] = dict(
        _delete_=True, type='mmpretrain.SwinTransformer', window_size=4, img_size=64, pad_small_map=True,
        out_indices=(0, 1, 2, 3), arch=dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2]))
    det_fields['custom_imports'] = dict(imports=['mmpretrain.models'], allow_failed_imports=False)
    config = write_config(det_fields, 'base')
    tool('train.py', config, '--no-validate')
    tool('grow.py', config, 'work_dirs/base/epoch_1.pth', '--scale', 1, 1, 2, 1, '--out', 'grown', '--shape', 64)
    backbone = Config.fromfile('grown/base_grown.py').model.backbone
    assert backbone.base == 'mmpretrain.SwinTransformer' and backbone.scale == [1, 1, 2, 1]
    tool('train.py', 'grown/base_grown.py', '--no-validate')


def test_a_checkpoint_that_would_run_code(trained, tool, tmp_path, capsys):
    config, checkpoint = trained('cls')
    run = torch.load(checkpoint, weights_only=False)
    torch.save(dict(run, note=Attack(tmp_path / 'made')), 'attack.pth')
    assert 'would call posix.mkdir' in refused(tool, capsys, 'grow.py', config, 'attack.pth', '--out', 'grown')
    assert not Path('made').exists() and not Path('grown').exists()
    tool('grow.py', config, 'attack.pth', '--out', 'grown', '--trusted')
    assert Path('made').exists() and Config.fromfile('grown/base_cls_grown.py').trusted is True


@pytest.mark.parametrize('ending', ['json', 'yaml'])
def test_from_the_folder_of_a_config_that_is_not_python(ending, trained, tool, tmp_path):
    config, checkpoint = trained('cls')
    Config.fromfile(config).dump(f'own.{ending}')
    tool('train.py', f'own.{ending}', '--no-validate')
    tool('grow.py', 'work_dirs/own', tmp_path / 'work_dirs/own/epoch_3.pth', '--out', 'grown')
    tool('train.py', 'grown/own_grown.py', '--no-validate')
    assert (tmp_path / 'work_dirs/own_grown/epoch_3.pth').exists()


def test_from_another_folder(trained, shell, tool, tmp_path):
    """As a process of its own; the command it prints is right from where it ran."""
    config, checkpoint = trained('cls')
    tools = Path(__file__).resolve().parents[2] / 'tools'
    result = shell(sys.executable, tools / 'grow.py', config, checkpoint.with_name('epoch_2.pth'), '--out', 'a folder')
    assert result.returncode == 0, result.stderr
    _, script, *arguments = shlex.split(next(line for line in result.stdout.splitlines() if '--resume ' in line))
    assert (tmp_path / script).resolve() == tools / 'train.py'
    tool('train.py', *arguments, '--no-validate')
    assert (tmp_path / 'work_dirs/base_cls_grown/epoch_3.pth').exists()


def test_a_grown_scalenet_runs_at_its_full_depth(cls_fields, write_config, tool, tmp_path):
    """Not at that of the base, which its checkpoint notes."""
    cls_fields['model']['backbone'].update(scale=1, adapter=None)
    config = write_config(cls_fields, 'base')
    tool('train.py', config, '--no-validate')
    checkpoint = tmp_path / 'work_dirs/base/epoch_3.pth'
    assert torch.load(checkpoint, weights_only=False)['meta']['depth'] == {'backbone': [2]}
    tool('grow.py', config, checkpoint, '--scale', 2, '--out', 'grown')
    model, _ = load_model(Config.fromfile('grown/base_grown.py'), 'grown/base_grown.pth')
    assert model.backbone.active_depth == [4]


def test_a_folder_with_a_quote_in_its_name(trained, tool, tmp_path):
    """Of a person's, say; mmengine writes it into the text of the config."""
    config, checkpoint = trained('cls')
    tool('grow.py', config, checkpoint, '--out', "o'brien")
    grown = Path("o'brien/base_cls_grown.py")
    assert Config.fromfile(grown).load_from == str(tmp_path / "o'brien/base_cls_grown.pth")
    tool('model_converters/to_plain.py', grown, grown.with_suffix('.pth'), '--depth', 2,
         '--out', "o'brien/plain", '--shape', 32)
    plain, = Path("o'brien/plain").glob('*.py')
    assert Path(Config.fromfile(plain).load_from).is_file()
