"""Schedules of a shortened rest, walked by mmengine's own schedulers, against those of the whole."""
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

import mmscalenet.engine  # noqa: F401  registers
from mmscalenet.engine import UsageError
from mmscalenet.engine.same_flops import SameFlops

LENGTH = 50  # iterations of an epoch
TOTAL, NOW, COST = 2000, 1400, 1.5  # of the base's run; where it grows
END = NOW + 400
WARMUP = dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100)
CONVERTED = dict(by_epoch=True, convert_to_iter_based=True)

BETWEEN = {
    'linear': dict(type='LinearLR', start_factor=1., end_factor=0.01, by_epoch=False, begin=1700),
    'linear with an end': dict(type='LinearLR', start_factor=1., end_factor=0.01, by_epoch=False, begin=1400, end=1900),
    'cosine': dict(type='CosineAnnealingLR', T_max=300, eta_min=1e-5, by_epoch=False, begin=1700, end=2000),
    'polynomial': dict(type='PolyLR', power=0.9, eta_min=1e-5, by_epoch=False, begin=1700),
    'in epochs, by iterations': dict(type='LinearLR', start_factor=1., end_factor=0.01, begin=34, end=40, **CONVERTED),
    'cosine in epochs, by iterations': dict(type='CosineAnnealingLR', T_max=6, begin=34, end=40, **CONVERTED),
    'steps': dict(type='MultiStepLR', milestones=[1600, 1850], by_epoch=False),
    'steps in epochs, by iterations': dict(type='MultiStepLR', milestones=[32, 37], **CONVERTED),
    'of momentum': dict(type='CosineAnnealingMomentum', eta_min=0.5, by_epoch=False, begin=1700),
    'of a factor': dict(type='ConstantLR', factor=0.5, by_epoch=False, begin=0, end=1800),
    'as it is named at length': dict(type='LinearParamScheduler', param_name='lr', start_factor=1., end_factor=0.01,
                                     by_epoch=False, begin=1700)}


def make(schedules: list[dict], epochs: bool) -> Config:
    train = dict(by_epoch=True, max_epochs=TOTAL // LENGTH) if epochs else dict(
        type='IterBasedTrainLoop', max_iters=TOTAL)
    return Config(dict(train_cfg=train, param_scheduler=schedules))


def run_at(iteration: int) -> dict:
    return dict(meta=dict(iter=iteration, epoch=iteration // LENGTH),
                message_hub=dict(runtime_info=dict(max_epochs=TOTAL // LENGTH, max_iters=TOTAL)))


def values(cfg: Config, name: str) -> list[float]:
    """Of the optimizer, in every iteration of a run."""
    epochs = 'max_epochs' in cfg.train_cfg
    total = cfg.train_cfg.max_epochs * LENGTH if epochs else cfg.train_cfg.max_iters
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
    wrapper, schedulers = OptimWrapper(optimizer), []
    for given in cfg.param_scheduler:
        given = given.to_dict()
        given.setdefault('end', total // LENGTH if given.get('by_epoch', True) else total)
        schedulers.append(PARAM_SCHEDULERS.build(given, default_args=dict(optimizer=wrapper, epoch_length=LENGTH)))
    found = []
    for iteration in range(1, total + 1):
        found.append(optimizer.param_groups[0][name])
        for scheduler in schedulers:
            if not scheduler.by_epoch or iteration % LENGTH == 0:
                scheduler.step()
    return found


def shortened(cfg: Config, cost: float = COST, now: int = NOW) -> tuple[SameFlops, Config]:
    rest = SameFlops(cfg, run_at(now), cost)
    short = Config(cfg.to_dict())
    short.train_cfg.update(rest.settings['train_cfg'])
    short.param_scheduler = [Config(dict(one=one)).one for one in rest.settings['param_scheduler']]
    return rest, short


@pytest.mark.parametrize('name', BETWEEN)
def test_the_rest_has_the_shape_of_the_bases_rest(name):
    """At each part of the rest the value of the base; until then the base's, bit by bit."""
    given = BETWEEN[name]
    cfg = make([WARMUP, given], epochs=given['by_epoch'])
    rest, short = shortened(cfg)
    assert (rest.end, rest.spent) == (END, pytest.approx(1))
    what = 'momentum' if 'Momentum' in given['type'] else 'lr'
    whole, brief = values(cfg, what), values(short, what)
    assert len(brief) == END and brief[:NOW] == whole[:NOW]
    assert len(set(whole[NOW:])) > 1
    # an iteration is 1.5 of the base's: between the values of its neighbours, a last one above the base's last
    for iteration in range(NOW, END):
        place = NOW + (iteration - NOW) * COST
        near = whole[max(NOW, int(place) - 3):int(place) + 4]
        assert min(near) - 1e-9 <= brief[iteration] <= max(near) + 1e-9, iteration
    assert brief[-1] <= whole[-3] or what == 'momentum'


def test_whole_epochs_and_no_more_than_the_base_spends():
    steps = dict(type='MultiStepLR', milestones=[32, 37], by_epoch=True)
    rest, short = shortened(make([WARMUP, steps], epochs=True), cost=1.6)
    assert short.train_cfg.max_epochs == 28 + 7 and rest.spent == pytest.approx(7 * 1.6 / 12)
    assert short.param_scheduler[0] == WARMUP
    # in iterations, or the last would be rounded to an epoch of its own
    assert short.param_scheduler[1].milestones == [1400 + round(200 * 7 / 12), 1400 + round(450 * 7 / 12)]
    assert short.param_scheduler[1].by_epoch is False


@pytest.mark.parametrize('schedule, now, cost', [
    (dict(type='MultiStepLR', milestones=[38, 39]), 37, 2.), (dict(type='MultiStepLR', milestones=[39]), 36, 1.9),
    (dict(type='LinearLR', start_factor=1., end_factor=0.1, begin=37), 36, 2.),
    (dict(type='ConstantLR', factor=0.1, begin=39), 36, 1.5)], ids=lambda value: str(value))
def test_no_decay_in_epochs_is_lost(schedule, now, cost):
    """As the last epochs of a detector, which whole epochs of fewer would round away."""
    cfg = make([WARMUP, dict(by_epoch=True, **schedule)], epochs=True)
    rest, short = shortened(cfg, cost, now * LENGTH)
    whole, brief = values(cfg, 'lr'), values(short, 'lr')
    assert len(brief) == rest.end and brief[:now * LENGTH] == whole[:now * LENGTH]
    if schedule['type'] == 'LinearLR':  # its steps once an epoch have become a slope
        assert list(rest.smoothed()) == ['param_scheduler.1'] and brief[-1] < whole[-1] < brief[now * LENGTH]
        return
    low = [sum(rate < whole[now * LENGTH - 1] for rate in rates[now * LENGTH:]) for rates in (whole, brief)]
    assert low[1] * cost / low[0] == pytest.approx(rest.spent, rel=0.1)
    # mmengine's ConstantLR ends an iteration early
    assert brief[-2] == pytest.approx(whole[-1]) and not list(rest.smoothed())


def test_from_the_middle_of_an_epoch():
    """It ends with one all the same."""
    rest, short = shortened(make([WARMUP], epochs=True), cost=2., now=NOW + 20)
    assert short.train_cfg.max_epochs == 34  # 580 iterations are left, and 290 from 1420 on end in the 35th
    assert rest.spent == pytest.approx((34 * LENGTH - 1420) * 2 / 580)


@pytest.mark.parametrize('schedule', [
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100),
    dict(type='PolyLR', by_epoch=False),
    dict(type='LinearLR', start_factor=1., end_factor=0., by_epoch=False, begin=NOW - 1),
    dict(type='ExponentialLR', gamma=0.9, by_epoch=False, begin=1500),
    dict(type='OneCycleLR', eta_max=0.1, total_steps=TOTAL, by_epoch=False)])
def test_a_rate_that_falls_already_is_refused(schedule):
    cfg = make([WARMUP, schedule], epochs=False)
    with pytest.raises(UsageError, match=rf'param_scheduler\.1, {schedule["type"]} of .* constant rate'):
        SameFlops(cfg, run_at(NOW), COST).settings  # noqa: B018


@pytest.mark.parametrize('now, cost, message', [
    (TOTAL, 2., 'at its end'), (TOTAL - LENGTH, 2., 'does not pay for one epoch'),
    (TOTAL - LENGTH, 1.1, '50 iterations')])
def test_nothing_left_is_refused(now, cost, message):
    with pytest.raises(UsageError, match=message):
        SameFlops(make([], epochs=True), run_at(now), cost)


def test_numbers_of_hooks_are_named():
    cfg = make([WARMUP], epochs=True)
    cfg.custom_hooks = [dict(type='PipelineSwitchHook', switch_epoch=35), dict(type='EMAHook', begin_iter=1500),
                        dict(type='EMAHook', begin_epoch=3)]
    cfg.train_cfg.val_interval = 1
    assert list(SameFlops(cfg, run_at(NOW), COST).unmoved()) == [
        'custom_hooks.0.switch_epoch=35', 'custom_hooks.1.begin_iter=1500']


def test_without_a_schedule():
    assert SameFlops(Config(dict(train_cfg=dict(max_iters=TOTAL))), run_at(NOW), 3.).settings == dict(
        train_cfg=dict(max_iters=1600))
