"""Make files of the version at hand that every later version has to read: a folder for each case.

    python tests/old_files/make.py                     # what is missing of CASES, and the run
    PYTHONPATH=OLD python tests/old_files/make.py --checkout OLD --name first --layout zip deit-cyclic

The second form has an earlier commit make the named cases, as ``first-deit-cyclic``, and a run. What is there stays as
it is: a folder that would have to be made anew is a file of a user's that no longer loads. Beside its weights a folder
has ``case.json`` (the model, the commit, the names of all tensors) and ``outputs.pth`` (what the model computes of
:func:`image`); a run has its config and images, the checkpoint of its first epoch and the weights of its last.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
DEIT = dict(type='mmscalenet.ScaleNetDeiT', base='mmpretrain.VisionTransformer', img_size=16, patch_size=4,
            out_type='featmap', arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16))
THREE = dict(DEIT, arch=dict(DEIT['arch'], num_layers=3))
SEG_VIT = dict(type='mmscalenet.ScaleNetDeiT', base='mmseg.VisionTransformer', img_size=(16, 16), patch_size=4,
               embed_dims=8, num_layers=2, num_heads=2, mlp_ratio=2)
SWIN = dict(type='mmscalenet.ScaleNetSwin', embed_dims=4, depths=[2, 2], num_heads=[1, 2], window_size=2,
            mlp_ratio=2, out_indices=(0, 1), drop_path_rate=0.)
PRETRAIN_SWIN = dict(type='mmscalenet.ScaleNetSwin', base='mmpretrain.SwinTransformer', img_size=16, window_size=2,
                     arch=dict(embed_dims=4, depths=[2, 2], num_heads=[1, 2]), out_indices=(0, 1), drop_path_rate=0.)
ANY = dict(type='mmscalenet.ScaleNet')
#: Name -> the backbone's config, and how its weights lie in the file: a key of WRITERS, 'safetensors' by default.
CASES = {
    'deit-base': dict(DEIT, scale=1, adapter=None),
    'deit-cyclic': dict(DEIT, scale=2),
    'deit-interleaved-gate': dict(DEIT, scale=2, layer_map='interleaved', gate=0.),
    'deit-sub-steps': dict(DEIT, scale=2, layer_map='interleaved', gate='1/N', adapter=None),
    'deit-core-inject': dict(THREE, scale=4 / 3, layer_map='middle_cycle', core=(1, 1), inject=True),
    'deit-own-norms': dict(DEIT, scale=2, unshare='norms'),
    'deit-lora': dict(DEIT, scale=2, adapter=dict(type='LoRA', rank=2)),
    'deit-wide-adapter': dict(DEIT, scale=2, adapter=dict(type='ParallelAdapter', ratio=1., act_cfg=dict(type='GELU'))),
    'deit-stacked': dict(DEIT, scale=2, share=False),
    'deit-given-map': dict(DEIT, layer_map=[0, 1, 0, 1, 1]),
    'deit-depth': dict(DEIT, scale=2, depth=3),
    'deit-training-options': dict(DEIT, scale=2, freeze='base', with_cp=True, drop_path_rate=0.1),
    'deit-windows': dict(DEIT, scale=2, img_size=32, window_size=2, global_positions=1, with_cls_token=False),
    'deit-registers': dict(DEIT, scale=2, num_register_tokens=2),
    'deit-distilled': dict(DEIT, base='mmpretrain.DistilledVisionTransformer', scale=2),
    'deit-layer-scale': dict(DEIT, scale=2, layer_scale_init_value=1e-5),
    'deit-mmseg': dict(SEG_VIT, scale=2),
    'swin-mmpretrain': dict(PRETRAIN_SWIN, scale=2),
    'swin-mmdet': dict(SWIN, base='mmdet.SwinTransformer', scale=[1, 2], gate=0.),
    'swin-mmseg': dict(SWIN, base='mmseg.SwinTransformer', scale=2, sdpa=False, unshare='norms'),
    'convnext': dict(ANY, base='mmpretrain.ConvNeXt', scale=2, gap_before_final_norm=False,
                     arch=dict(depths=[1, 1, 2, 1], channels=[4, 4, 8, 8])),
    'beit': dict(ANY, base='mmpretrain.BEiTViT', scale=2, img_size=32, patch_size=4, out_type='featmap',
                 arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)),
    'in-old-format': dict(DEIT, scale=2, layout='old format'),
    'in-shards': dict(DEIT, scale=2, layout='shards'),
    'in-a-run': dict(DEIT, scale=2, layout='run'),
}


#: The config of a run that is stopped after its first epoch: what --resume and tools/test.py have to take.
RUN = '''
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)
randomness = dict(seed=0)
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2, to_rgb=True, mean=[127.] * 3, std=[60.] * 3),
    backbone=dict(type='mmscalenet.ScaleNetDeiT', scale=2, gate=0., img_size=16, patch_size=8,
                  arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)),
    head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=8,
              loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = val_dataloader = test_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='images', pipeline=pipeline))
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1, ))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-2))
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, T_max=3)
train_cfg = dict(by_epoch=True, max_epochs=3)
val_cfg, test_cfg = dict(), dict()
'''


def image() -> Tensor:
    """(1, 3, 32, 32), the same everywhere."""
    return torch.linspace(-1, 1, 3 * 32 * 32).sin().reshape(1, 3, 32, 32)


def built(config: dict) -> nn.Module:
    import mmpretrain  # noqa: F401
    from mmengine.registry import MODELS, init_default_scope

    import mmscalenet  # noqa: F401
    init_default_scope('mmpretrain')
    return MODELS.build(config)


def randomised(model: nn.Module) -> nn.Module:
    """No tensor is at its start, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    model.eval()
    return list(model(image()))


def _shards(state: dict, folder: Path) -> str:
    from safetensors.torch import save_file
    names, files = sorted(state), ('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')
    parts = names[::2], names[1::2]
    for file, part in zip(files, parts, strict=True):
        save_file({name: state[name].contiguous() for name in part}, folder / file)
    index = 'model.safetensors.index.json'
    weight_map = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    (folder / index).write_text(json.dumps(dict(metadata={}, weight_map=weight_map)))
    return index


def _safetensors(state: dict, folder: Path) -> str:
    from safetensors.torch import save_file
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / 'weights.safetensors')
    return 'weights.safetensors'


def _pth(content: dict, folder: Path, **options) -> str:
    torch.save(content, folder / 'weights.pth', **options)
    return 'weights.pth'


#: Layout -> function that writes a state dict into a folder and returns the name to load.
WRITERS = {
    'zip': _pth,
    'old format': lambda state, folder: _pth(state, folder, _use_new_zipfile_serialization=False),
    'run': lambda state, folder: _pth(dict(meta=dict(epoch=1), state_dict={
        f'backbone.{name}': value for name, value in state.items()} | {'head.fc.bias': torch.zeros(2)}), folder),
    'safetensors': _safetensors,
    'shards': _shards,
}


def make(name: str, folder: Path, made_by: str, layout: str) -> None:
    config = dict(CASES[name])
    layout = config.pop('layout', layout)
    model = randomised(built(config))
    state, computed = model.state_dict(), outputs(model)
    folder.mkdir()
    file = WRITERS[layout](state, folder)
    torch.save(computed, folder / 'outputs.pth')
    case = dict(made_by=made_by, layout=layout, file=file, model=config, keys=sorted(state))
    (folder / 'case.json').write_text(json.dumps(case, indent=1) + '\n')
    print(f'made {folder.name}')


def make_run(folder: Path, made_by: str, tools: Path) -> None:
    """Train three epochs, and keep the checkpoint of the first and the weights of the last."""
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
        pixels[..., i % 2] += 120
        path = folder / f'images/class{i % 2}/{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (folder / 'config.py').write_text(RUN)
    with tempfile.TemporaryDirectory() as work_dir:
        subprocess.run([sys.executable, tools / 'train.py', 'config.py', '--work-dir', work_dir], cwd=folder,
                       check=True)
        shutil.copy(f'{work_dir}/epoch_1.pth', folder)
        end = torch.load(f'{work_dir}/epoch_3.pth', weights_only=False)['state_dict']
    WRITERS['safetensors']({name: value for name, value in end.items()}, folder)
    (folder / 'run.json').write_text(json.dumps(dict(made_by=made_by)) + '\n')
    print(f'made {folder.name}')


def commit(checkout: Path) -> str:
    return subprocess.run(['git', 'log', '-1', '--format=%h of %as'], cwd=checkout, check=True, capture_output=True,
                          text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('cases', nargs='*', help='default: all')
    parser.add_argument('--checkout', type=Path, default=HERE.parents[1], help='whose commit is written down')
    parser.add_argument('--layout', default='safetensors', choices=WRITERS, help='of cases that name none')
    parser.add_argument('--name', help='put before the names of the cases')
    args = parser.parse_args()
    for case in args.cases or CASES:
        folder = HERE / (f'{args.name}-{case}' if args.name else case)
        if not folder.exists():
            make(case, folder, commit(args.checkout), args.layout)
    folder = HERE / (f'{args.name}-run' if args.name else 'run')
    if not folder.exists():
        make_run(folder, commit(args.checkout), args.checkout.resolve() / 'tools')
    import mmscalenet
    print(f'with {Path(mmscalenet.__file__).parent}', file=sys.stderr)


if __name__ == '__main__':
    main()
