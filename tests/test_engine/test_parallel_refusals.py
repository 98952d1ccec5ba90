"""What cannot work in several processes is refused from the config alone."""
import pytest
from mmengine.config import Config
from mmengine.model import MMFullyShardedDataParallel

from mmscalenet.engine import UsageError
from mmscalenet.engine.parallel import check_parallel

STATIC = dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', static_graph=True))
DEPTH = dict(custom_hooks=[dict(type='mmscalenet.DepthHook', mode='elastic')])
EMA = dict(custom_hooks=[dict(type='EMAHook')])
SHARDED = dict(runner_type='FlexibleRunner', strategy=dict(type='FSDPStrategy', state_dict_cfg='full'))
REFUSED = {
    'static_graph=True does not go with accumulative_counts=2': STATIC | dict(
        optim_wrapper=dict(accumulative_counts=2)),
    'DepthHook changes which; leave out static_graph': STATIC | DEPTH,
    'leave out DepthHook, or train with DDP': SHARDED | DEPTH,
    'EMAHook copies the model': SHARDED | EMA,
    "clip_grad=dict.type='value'": SHARDED | dict(optim_wrapper=dict(clip_grad=dict(max_norm=1.))),
    "set runner_type='FlexibleRunner' and strategy": dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')),
    "set runner_type='FlexibleRunner', or leave strategy out": dict(strategy=dict(type='FSDPStrategy')),
    "set state_dict_cfg='full' in the strategy": SHARDED | dict(strategy=dict(type='FSDPStrategy')),
    'FSDPStrategy reads a checkpoint into a model that it has split': SHARDED | dict(load_from='epoch_1.pth'),
    'give the backbone with_cp=True': SHARDED | dict(activation_checkpointing=['backbone']),
}


def config(fields: dict, launcher: str = 'pytorch') -> Config:
    return Config(dict(dict(optim_wrapper=dict(type='OptimWrapper'), launcher=launcher), **fields))


@pytest.mark.parametrize('message', REFUSED)
def test_refused(message):
    with pytest.raises(UsageError, match=message):
        check_parallel(config(REFUSED[message]))


def test_types_may_be_classes():
    with pytest.raises(UsageError, match='instead of model_wrapper_cfg'):
        check_parallel(config(dict(model_wrapper_cfg=dict(type=MMFullyShardedDataParallel))))


@pytest.mark.parametrize('fields', [
    {}, STATIC, DEPTH | EMA, SHARDED, dict(activation_checkpointing=['backbone']),
    STATIC | EMA | dict(optim_wrapper=dict(clip_grad=dict(max_norm=1.))),
    SHARDED | dict(optim_wrapper=dict(clip_grad=dict(type='value', clip_value=1.), accumulative_counts=2)),
])
def test_what_works_is_let_through(fields):
    check_parallel(config(fields))


def test_one_process_has_no_wrapper():
    check_parallel(config(STATIC | DEPTH, launcher='none'))


@pytest.mark.parametrize('fields', [
    SHARDED, dict(optim_wrapper=dict(optimizer=dict(type='ZeroRedundancyOptimizer', optimizer_type='SGD', lr=1.)))])
def test_one_process_has_nobody_to_share_with(fields):
    with pytest.raises(UsageError, match='start with tools/dist_train.sh'):
        check_parallel(config(fields, launcher='none'))


def test_what_was_trained_in_shards_is_tested_whole(cls_fields, write_config, tool, tmp_path):
    tool('train.py', write_config(cls_fields), '--no-validate')
    tool('test.py', write_config(cls_fields | SHARDED, 'sharded'), tmp_path / 'work_dirs/tiny/epoch_3.pth', '--out',
         'predictions.pkl')
    assert (tmp_path / 'predictions.pkl').exists()
