"""Random configs of all families and options: each builds and trains, or is refused by a TypeError or ValueError that
names one of its arguments. Where the parent alone fails at what is given, that is the answer.

    python -m pytest tests/test_models/test_fuzz.py -m slow -s    # 1,200 configs, and what became of them
"""
import copy
import math
import random
from collections import Counter

import pytest
import torch
from families import FAMILIES, family_image
from mmengine.registry import MODELS
from parents import PARENTS, flatten, image

from mmscalenet.models.backbones.scalenet import arguments_of

EVERY = {**FAMILIES, **{name: (parent, arguments) for name, (parent, arguments, _) in PARENTS.items()}}
#: Option -> values that people may give, right and wrong.
VALUES = dict(
    scale=[1, 2, 2, 3, 1.5, 4 / 3, 0, -1, 0.5, math.nan, math.inf, '2', None, [2, 2, 2, 2], [1, 2, 1, 1], [2], True],
    layer_map=['cyclic', 'interleaved', 'middle_cycle', 'zigzag', [0, 1, 0, 1], [0], [], [[0, 1, 0, 1]] * 4, None, 3],
    core=[None, (1, 2), (0, 3), (2, 1), [None, None, (0, 1), None], 3, 'all'],
    depth=[None, 4, 6, 8, 1, 100, -1, '8', [2, 2, 4, 2], 2.5],
    adapter=[None, dict(type='ParallelAdapter'), dict(type='ParallelAdapter', ratio=0.25), dict(type='LoRA', rank=2),
             dict(type='ParallelAdapter', ratio=0), dict(type='ParallelAdapter', act_cfg={}), dict(), 'LoRA',
             dict(type='No'), dict(type='LoRA', rank=10**6), dict(type='ParallelAdapter', width=3), [], 7],
    share=[True, True, False, None, 'no', 1],
    gate=[None, 0., 1, 0.5, '1/N', '1/2', math.nan, [], True],
    inject=[False, True, None, 'yes'],
    unshare=[None, 'norms', 'attn', 5],
    freeze=[None, 'base', 'all', True],
    with_cp=[False, True, 'light', None, 'yes'],
    drop_path_rate=[None, 0., 0.3, 1., -0.1, '0.1', math.nan],
    frozen_stages=[-1, 0, 1, 4, 5, 100, -2, '1', None, 1.5],
    out_indices=[None, [0], (1, 3), [3, 1], -1, 3, [9], 'all', [], [True]],
    init_cfg=[None, [], dict(type='TruncNormal', layer='Linear', std=.02), dict(), 'file.pth', 3],
    base=[None, 'mmdet.SwinTransformer', 'ResNet', 3, ''],
    typo=[1],
)


def draw(rng: random.Random, name: str) -> dict:
    """A config of the family with one to three options at random."""
    parent, arguments = EVERY[name]
    kind = 'ScaleNet' if name in FAMILIES else 'ScaleNetSwin' if 'swin' in name else 'ScaleNetDeiT'
    config = dict(copy.deepcopy(arguments), type=f'mmscalenet.{kind}', base=f'{name.split("-")[0]}.{parent.__name__}')
    chosen = rng.sample(sorted(VALUES), rng.choice([1, 2, 2, 3]))
    return {**config, **{option: copy.deepcopy(rng.choice(VALUES[option])) for option in chosen}}, chosen


def outcome(config: dict, chosen: list[str], x: torch.Tensor) -> str:
    """'runs' or 'refused'."""
    try:
        model = MODELS.build(copy.deepcopy(config))
        model.init_weights()
    except (TypeError, ValueError) as error:
        # a family's own arguments may be what does not go with an option
        assert any(word in str(error) for word in (*chosen, *config)), f'names no argument: {error}'
        return 'refused'
    model.train()
    loss = sum((output.square().mean() for output in flatten(model(x))), torch.zeros(()))
    assert math.isfinite(loss)
    if loss.requires_grad:
        loss.backward()
    model.eval()
    with torch.no_grad():
        model(x)
    return 'runs'


def parent_fails(name: str, config: dict, x: torch.Tensor) -> bool:
    """Whether what is given of the parent's own arguments is too much for the parent itself."""
    parent = EVERY[name][0]
    taken = {key: copy.deepcopy(value) for key, value in config.items() if key in arguments_of(parent)}
    try:
        model = parent(**taken)
        model.init_weights()
        model.train()
        model(x)
    except Exception:
        return True
    return False


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('rounds', [1, pytest.param(40, marks=pytest.mark.slow)])
def test_every_config_runs_or_is_refused_by_name(name, rounds):
    rng = random.Random(f'{name} {rounds}')
    x = family_image(name) if name in FAMILIES else image((EVERY[name][1].get('img_size', 64), ) * 2)
    counts, wrong = Counter(), []
    for _ in range(rounds):
        config, chosen = draw(rng, name)
        try:
            counts[outcome(config, chosen, x)] += 1
        except Exception as error:
            if parent_fails(name, config, x):
                counts['fails in the parent'] += 1
                continue
            given = {option: config[option] for option in chosen}
            wrong.append(f'{given}: {type(error).__name__}: {str(error)[:200]}')
    print(f'\n{name}: {dict(counts)}, wrong {len(wrong)}')
    assert not wrong, '\n'.join(wrong)
