"""Where the hint of a missing file says that another one is to be named."""
from urllib.error import URLError

import pytest
from mmengine.config import Config

from mmscalenet.engine import UsageError, name_missing_files


def pretrained(path: str) -> dict:
    return dict(init_cfg=dict(type='Pretrained', checkpoint=path))


def hint(cfg: Config, error: Exception) -> str:
    with pytest.raises(UsageError) as raised, name_missing_files(cfg):
        raise error
    return str(raised.value)


@pytest.mark.parametrize(('cfg', 'keys'), [
    (dict(model=dict(backbone=pretrained('w.pth'))), ['model.backbone.init_cfg.checkpoint']),
    (dict(model=dict(backbone=pretrained('w.pth'), neck=pretrained('other.pth'), head=pretrained('w.pth'))),
     ['model.backbone.init_cfg.checkpoint', 'model.head.init_cfg.checkpoint']),
    (dict(model=dict(decode_head=[dict(), dict(loss=pretrained('w.pth'))])),
     ['model.decode_head.1.loss.init_cfg.checkpoint']),
    (dict(model=dict(pretrained='w.pth'), load_from='w.pth'), ['model.pretrained', 'load_from']),
    (dict(model=dict()), []),
])
def test_missing_weights(cfg, keys):
    cfg = Config(cfg)
    options = f', or name another one: --cfg-options {" ".join(f"{key}=PATH" for key in keys)}' if keys else '.'
    assert hint(cfg, FileNotFoundError(2, 'No such file', 'w.pth')) == \
        f'the weights "w.pth" do not exist. Put the file there{options}'
    assert hint(cfg, FileNotFoundError('w.pth can not be found.')).endswith(f'there{options}')


def test_the_keys_are_options():
    cfg = Config(dict(model=dict(heads=[dict(), pretrained('w.pth')])))
    options = hint(cfg, FileNotFoundError(2, 'No such file', 'w.pth')).partition('--cfg-options ')[2].split()
    cfg.merge_from_dict(dict(option.split('=') for option in options))
    assert cfg.model.heads[1].init_cfg.checkpoint == 'PATH'


def test_failed_download():
    here, there = 'https://host/here.pth', 'https://host/there.pth'
    cfg = Config(dict(model=dict(backbone=pretrained(here), head=pretrained(here)), load_from=there))
    keys = 'model.backbone.init_cfg.checkpoint=PATH model.head.init_cfg.checkpoint=PATH'
    line = hint(cfg, URLError('no route'))
    assert f'cannot download "{here}" or "{there}" (no route)' in line and keys in line and 'load_from=PATH' in line
    try:
        raise ValueError(f'{here}: download failed') from URLError('no route')
    except ValueError as error:
        line = hint(cfg, error)
    assert f'cannot download "{here}" (no route)' in line and keys in line and 'load_from' not in line


def test_a_missing_file_that_was_handled_is_not_the_error():
    """As in data sets that make a cache where there is none."""
    for suppressed in (False, True):
        with pytest.raises(RuntimeError, match='out of memory'), name_missing_files(Config(dict(model=dict()))):
            try:
                open('no_such_cache.json')
            except FileNotFoundError:
                if suppressed:
                    raise RuntimeError('out of memory') from None
                raise RuntimeError('out of memory')  # noqa: B904


def test_an_error_that_is_raised_anew_is_what_it_was():
    """As mmengine's builders do."""
    def build() -> None:
        try:
            open('annotations.json')
        except FileNotFoundError as error:
            raise type(error)(f'class `CocoDataset` in coco.py: {error}')  # noqa: B904

    with pytest.raises(UsageError, match='the data "annotations.json" does not exist'), \
            name_missing_files(Config(dict(model=dict()))):
        build()
