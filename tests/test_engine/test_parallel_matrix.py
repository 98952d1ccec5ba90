"""Every way of training in several processes has the gradients of one process with the joint batch, or is refused.

    python -m pytest -m slow tests/test_engine/test_parallel_matrix.py    # writes docs/results/parallel.md
"""
import json
from dataclasses import asdict
from pathlib import Path
from statistics import mean

import pytest
import torch
from parallel_cells import (
    BOUNDS,
    TESTS,
    Cell,
    all_cells,
    compare,
    config_of,
    difference,
    distance,
    read_outcome,
    refusal,
    train_in_two,
    write_results,
)

RESULTS = Path(__file__).resolve().parents[2] / 'docs/results'


@pytest.fixture
def models(cls_fields, det_fields, seg_fields, tiny_data) -> dict[str, dict]:
    """Configs of which half a batch has the losses' normalizers of the other half, and no statistics over it."""
    swin = dict(cls_fields, model=dict(
        cls_fields['model'], neck=dict(type='GlobalAveragePooling'),
        backbone=dict(type='mmscalenet.ScaleNetSwin', scale=2, img_size=32, patch_size=2, window_size=4,
                      drop_path_rate=0., arch=dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2]), out_indices=(1, )),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=16)))
    for fields in (cls_fields, swin):  # mmpretrain starts the head at 0, which would keep the backbone's gradients 0
        fields['model']['head']['init_cfg'] = dict(type='Normal', layer='Linear', std=0.5)

    everything = dict(type='RandomSampler', num=100000, pos_fraction=0.5, neg_pos_ub=-1)
    det_fields['model']['train_cfg'] = dict(
        rpn=dict(sampler=everything), rpn_proposal=dict(max_per_img=16),
        rcnn=dict(sampler=everything, assigner=dict(pos_iou_thr=0.999, neg_iou_thr=0.999, min_pos_iou=0.999)))
    annotations = json.loads((tiny_data / 'det/annotations.json').read_text())
    for annotation in annotations['annotations']:
        annotation.update(bbox=[16, 16, 32, 32], segmentation=[[16, 16, 48, 16, 48, 48, 16, 48]])
    (tiny_data / 'det/same_boxes.json').write_text(json.dumps(annotations))
    det_fields['train_dataloader']['dataset']['ann_file'] = 'same_boxes.json'

    heads = dict(channels=8, dropout_ratio=0., num_classes=3, norm_cfg=dict(type='GN', num_groups=2),
                 loss_decode=dict(type='CrossEntropyLoss'))
    seg_fields['model'].update(
        decode_head=dict(type='UPerHead', in_channels=[8, 16, 32, 64], in_index=[0, 1, 2, 3], pool_scales=(1, 2),
                         **heads),
        auxiliary_head=dict(type='FCNHead', in_channels=32, in_index=2, num_convs=1, **heads))

    found = {'DeiT': cls_fields, 'Swin': swin, 'Mask R-CNN': det_fields, 'UperNet': seg_fields}
    for name, fields in found.items():
        fields['train_dataloader'].update(batch_size=2 if name in ('DeiT', 'Swin') else 1,
                                          sampler=dict(type='DefaultSampler', shuffle=False))
        fields['train_cfg'] = dict(type='EpochBasedTrainLoop', max_epochs=2)
        fields['default_hooks'] = dict(checkpoint=dict(type='CheckpointHook', interval=2))
        fields['optim_wrapper']['optimizer'] = dict(type='SGD', lr=0.01, momentum=0.9)
        for part in ('val', 'test'):
            for kind in ('dataloader', 'cfg', 'evaluator'):
                fields.pop(f'{part}_{kind}')
    return found


@pytest.fixture
def run(models, write_config, tool):
    """Train every cell in two processes and its reference in this one; a line of results for each."""

    def run_all(cells: list[Cell]) -> list[dict]:
        configs = {cell: write_config(config_of(cell, models), cell.name) for cell in cells}
        failed = train_in_two(list(configs.values()))
        references, lines = {}, []
        for cell, config in configs.items():
            outcome, line = read_outcome(config), dict(cell=asdict(cell))
            lines.append(line)
            if config in failed:
                line['failed'] = failed[config]
            elif isinstance(outcome, str):
                line['refused'] = outcome
            else:
                if cell.reference not in references:
                    path = write_config(config_of(cell.reference, models), cell.reference.name)
                    tool(TESTS / 'parallel_worker.py', path)
                    references[cell.reference] = read_outcome(path)
                line.update(compare(outcome, references[cell.reference], cell.dtype))
        return lines

    return run_all


def check(line: dict) -> None:
    expected = refusal(Cell(**line['cell']))
    if expected or 'refused' in line:
        assert expected and expected in line.get('refused', ''), line
    else:
        bound = BOUNDS[line['cell']['dtype']]
        assert all(line.get(kind, 1) < bound for kind in ('gradients', 'weights', 'saved')), line


def test_a_few(run, python, monkeypatch):
    for name in ('PYTHON', 'PYTHON_EXEC'):
        monkeypatch.setenv(name, str(python))
    cells = [Cell('DeiT', 'DDP', 'mmengine', extra="freeze='base'"), Cell('DeiT', 'static graph', 'with_cp'),
             Cell('DeiT', 'static graph', accumulation=2), Cell('DeiT', 'ZeRO', extra='EMA')]
    if torch.__version__ >= '2.6':  # which FSDP needs on a CPU
        cells.append(Cell('DeiT', 'FSDP', 'mmengine', accumulation=2))
    for line in run(cells):
        check(line)


def test_half_of_the_batch_differs(models, write_config, tool):
    """By more than any bound allows; how much goes with the random start, so the mean of three."""
    pairs = []
    for seed in range(3):
        gradients = []
        for batch_size in (1, 2):
            models['DeiT']['train_dataloader']['batch_size'] = batch_size
            fields = config_of(Cell('DeiT', None), models) | dict(randomness=dict(seed=seed))
            path = write_config(fields, f'batch{batch_size}_{seed}')
            tool(TESTS / 'parallel_worker.py', path)
            gradients.append(read_outcome(path)['ranks'][0]['gradients'][0])
        pairs.append(gradients)
    assert mean(difference(*pair) for pair in pairs) > 2 * BOUNDS['fp32']
    assert mean(distance(*pair) for pair in pairs) > 2 * BOUNDS['bf16']


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all(run):
    lines = run(list(all_cells()))
    write_results(lines, RESULTS)
    for line in lines:
        check(line)
