"""Models of configs at reduced size, for check_drop_in.py: where the backbone is, and how all around it shrinks."""
import importlib
import tempfile
from functools import cache
from pathlib import Path

from drop_in_pretraining import pretrains
from mmengine.config import ConfigDict
from mmengine.registry import Registry

from mmscalenet.expansion.families import is_known, refusal
from mmscalenet.models.backbones.scalenet import arguments_of

SHRINK = 8
#: Arguments of backbones that are widths.
WIDTHS = ('embed_dims', 'feedforward_channels', 'channels', 'base_dim', 'channels_mlp_dims')


def library_models(library: str) -> Registry:
    return importlib.import_module(f'{library}.registry').MODELS


def class_of(part: dict, library: str) -> type | None:
    kind = part.get('type')
    found = library_models(library).get(kind) if isinstance(kind, str) else kind
    return found if isinstance(found, type) else None


def find_backbone(node: object, library: str, where: str = '') -> str | None:
    """Dotted name of the first backbone in the config of a model that is of a known family, or refused by name."""
    if isinstance(node, dict) and (kind := class_of(node, library)) and (is_known(kind) or refusal(kind)):
        return where
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    found = (find_backbone(child, library, f'{where}.{name}'.lstrip('.')) for name, child in children)
    return next((name for name in found if name is not None), None)


def part_of(model: ConfigDict, where: str) -> ConfigDict:
    """The part with that dotted name."""
    for name in where.split('.') if where else ():
        model = model[int(name) if isinstance(model, list | tuple) else name]
    return model


def reduce_model(model: ConfigDict, where: str, library: str) -> tuple[int, int, int]:
    """Shrinks a model in place: the width of the backbone and of what reads from it, and the image.

    Models that pretrain keep both, as their necks and masks take them from elsewhere; the deepest lose layers.

    Returns:
        tuple[int, int, int]: Channels, height and width of the images.
    """
    backbone = part_of(model, where)
    kind = class_of(backbone, library)
    if pretrains(model, library):
        _reduce_depth(backbone, kind)
        size = backbone.get('img_size', model.get('input_size', 224))
        return backbone.get('in_channels', 3), size, size
    windows = 'SwinTransformer' in kind.__name__ or 'window_size' in arguments_of(kind)
    widths = _reduce_backbone(backbone, kind)
    # the same number elsewhere may be no width of the backbone, where it has several
    keys = ('in_channels', 'input_features') + (() if len(widths) > 1 else ('embed_dims', 'embed_dim', 'clip_channels'))
    if _scale_values(model.get('neck'), ('in_channels', ), widths):  # who stands behind a neck keeps its width
        _scale_values(model.neck, ('num_groups', ), {32: 32 // SHRINK})
    else:
        _scale_values([value for key, value in model.items() if key != where.split('.')[0]], keys, widths)
        if (head := model.get('decode_head') or {}) and not head.get('num_convs', 1):
            head.channels = head.in_channels  # an FCNHead that only classifies
    if 'text_encoder' in model:  # SAN's reads 14 sentences of 77 words for each of 171 classes in twelve layers
        model.text_encoder.update(templates=['a photo of a {}.'], num_layers=1)

    if library != 'mmpretrain':
        size = 128 if library == 'mmdet' else 64
    elif windows:
        size = backbone.get('img_size', 224)  # windows of classifiers divide the image
    else:
        size = 4 * backbone.get('patch_size', 16)
    if not windows and 'img_size' in arguments_of(kind):
        backbone.img_size = size
    if 'num_queries' in model:  # not more than a small image has tokens
        model.num_queries = model.test_cfg.max_per_img = 100
    # few proposals: NMS of 1,000 in each of v3det's 13,204 classes takes hours, a head of convolutions on them minutes
    if 'rpn' in (model.get('test_cfg') or {}):
        model.test_cfg.rpn.max_per_img = 20
    if 'rpn_proposal' in (model.get('train_cfg') or {}):
        model.train_cfg.rpn_proposal.max_per_img = 20
    _set_image_size(model, size)
    return backbone.get('in_channels', 3), size, size


def _reduce_backbone(backbone: ConfigDict, kind: type) -> dict[int, int]:
    """Shrinks the backbone in place; gives the numbers of channels of its outputs, before -> after."""
    if 'arch' in backbone:
        arch = _arch_of(backbone, kind)
        if arch is None:
            return {}
        backbone.arch = _shrink(arch)
    else:
        arch = arguments_of(kind) | dict(backbone)
        backbone.update({key: value for key, value in _shrink(arch).items() if key in WIDTHS})
        if 'feedforward_channels' in backbone.get('layer_cfgs', {}):
            backbone.layer_cfgs = _shrink(backbone.layer_cfgs)
    width = next(arch[name] for name in ('embed_dims', 'channels', 'base_dim') if name in arch)
    if isinstance(width, list | tuple):
        outputs = width
    elif isinstance(arch.get('num_layers'), list | tuple):  # MiT and PVT: heads of one width
        outputs = [width * heads for heads in arch['num_heads']]
    else:
        stages = len(arch.get('depths') or [0, *arch.get('downscale_indices', ())])
        outputs = [width * 2**stage for stage in range(stages)]
    return {width: width // SHRINK for width in outputs}


def _arch_of(backbone: ConfigDict, kind: type) -> dict | None:
    """What its ``arch`` stands for; None if the class learns that only when it is built."""
    arch = backbone.arch
    known = getattr(kind, 'arch_zoo', None) or getattr(kind, 'arch_settings', {})
    return known.get(arch) if isinstance(arch, str) else arch


def _shrink(arch: dict) -> dict:
    return {key: _divide(value) if key in WIDTHS else value for key, value in arch.items()}


def _divide(value: int | list[int]) -> int | list[int]:
    return [_divide(width) for width in value] if isinstance(value, list | tuple) else value // SHRINK


def _reduce_depth(backbone: ConfigDict, kind: type) -> None:
    arch = _arch_of(backbone, kind) if 'arch' in backbone else None
    if arch is not None and arch.get('num_layers', 0) > 12:
        backbone.arch = dict(arch, num_layers=12)


def _scale_values(node: object, keys: tuple[str, ...], widths: dict[int, int]) -> bool:
    """Replaces the values of ``keys`` that are numbers of channels of the backbone; False if there is none."""
    changed = False
    if isinstance(node, dict):
        for key, value in node.items():
            values = list(value) if isinstance(value, list | tuple) else [value]
            if key in keys and all(isinstance(v, int) and v in widths for v in values):
                scaled = [widths[v] for v in values]
                node[key] = scaled if isinstance(value, list | tuple) else scaled[0]
                changed = True
            else:
                changed |= _scale_values(value, keys, widths)
    elif isinstance(node, list | tuple):
        for child in node:
            changed |= _scale_values(child, keys, widths)
    return changed


def _set_image_size(model: ConfigDict, size: int) -> None:
    preprocessor = model.get('data_preprocessor') or ConfigDict()
    for part in [preprocessor, *(preprocessor.get('batch_augments') or [])]:
        if part.get('size'):
            part.size = (size, size)
    if preprocessor.get('size_divisor'):
        preprocessor.size_divisor = size
    test = model.get('test_cfg') or {}
    if test.get('mode') == 'slide':
        test.update(crop_size=(size, size), stride=(size // 2, size // 2))


def drop_pretrained(node: object) -> None:
    """Removes every ``init_cfg`` that would load a file; that of a PVT has no type."""
    if isinstance(node, dict):
        config = node.get('init_cfg')
        if isinstance(config, dict) and ('checkpoint' in config or str(config.get('type')).startswith('Pretrained')):
            node.pop('init_cfg')
        for child in node.values():
            drop_pretrained(child)
    elif isinstance(node, list | tuple):
        for child in node:
            drop_pretrained(child)


@cache
def small_bert() -> str | None:
    """A folder with a BERT of two layers and a vocabulary of letters; None without ``transformers``."""
    try:
        from transformers import BertConfig, BertModel
    except ImportError:
        return None
    folder = Path(tempfile.mkdtemp(prefix='drop_in_bert_'))
    letters = [chr(ord('a') + i) for i in range(26)]
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', *letters, *(f'##{letter}' for letter in letters)]
    (folder / 'vocab.txt').write_text('\n'.join(words))
    config = BertConfig(vocab_size=len(words), num_hidden_layers=2, intermediate_size=64)
    BertModel(config).save_pretrained(folder)
    (folder / 'tokenizer_config.json').write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    return str(folder)
