"""Does ScaleNet drop into the configs that people have? Tries every config that ships with the task libraries.

Every config of the installed mmpretrain, mmdet and mmseg whose backbone is a Swin or a (DeiT, ViT) VisionTransformer is
run twice at reduced size: as it is, and with the three lines that make it a ScaleNet of ``scale=2``. Each time the
model is built and initialised, predicts, and takes a training step on random images. The base's weights come from a
file with those of the unchanged backbone, named where the config names its own; afterwards every tensor of the file
must be in the expanded backbone bit for bit, nothing but what positions own may be new, and the gradient must reach the
same parameters as before.

What runs of a config: the whole model; prediction only, where it cannot train; its features, where it has no head; the
backbone alone, where the config does not run unchanged either, as it needs e.g. a package that is not installed. The
text encoder of GLIP and GroundingDINO is replaced by a small random one if ``transformers`` is installed. 'mended':
GroundingDINO does not run in mmdet 3.5.1 at all, as ``ref_point_head`` of its decoder has the wrong width; here it gets
the right one.

    python tools/analysis_tools/check_drop_in.py --out docs/results/drop_in.md
    python tools/analysis_tools/check_drop_in.py --library mmdet --filter 'swin/' --out work_dirs/drop_in.md

Results are kept in a json: the same call goes on where it was stopped, and tries again what failed.
"""
import argparse
import copy
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import re
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, Registry, init_default_scope
from mmengine.structures import PixelData

from mmscalenet.engine import whole_file

LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg')
TWINS = {'SwinTransformer': 'ScaleNetSwin', 'VisionTransformer': 'ScaleNetDeiT',
         'DistilledVisionTransformer': 'ScaleNetDeiT'}
KINDS = {*TWINS, *TWINS.values()}
SHRINK = 8
WHOLE, PREDICTION, FEATURES, ALONE = 'whole model', 'prediction', 'features', 'backbone alone'


# ------------------------------------------------------------------------------------------------ finding

def config_folder(library: str) -> Path:
    return Path(importlib.util.find_spec(library).origin).parent / '.mim' / 'configs'


def library_models(library: str) -> Registry:
    return importlib.import_module(f'{library}.registry').MODELS


def find_backbone(node: object, where: str = '') -> tuple[str, ConfigDict] | None:
    """Dotted name and config of the first Swin or VisionTransformer in the config of a model."""
    if isinstance(node, dict) and str(node.get('type')).rpartition('.')[2] in KINDS:
        return where, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    found = (find_backbone(child, f'{where}.{name}'.lstrip('.')) for name, child in children)
    return next(filter(None, found), None)


# ------------------------------------------------------------------------------------------------ reducing

def reduce_model(model: ConfigDict, where: str, library: str) -> tuple[int, int, int]:
    """Shrinks a model in place: the width of the backbone and of what reads from it, and the image.

    Returns:
        tuple[int, int, int]: Channels, height and width of the images.
    """
    backbone = find_backbone(model)[1]
    swin = backbone.type.endswith('SwinTransformer')
    widths = _reduce_backbone(backbone, library)
    keys = ('in_channels', 'input_features') + (() if swin else ('embed_dims', 'clip_channels'))
    if _scale_values(model.get('neck'), ('in_channels', ), widths):  # who stands behind a neck keeps its width
        _scale_values(model.neck, ('num_groups', ), {32: 32 // SHRINK})
    else:
        _scale_values([value for key, value in model.items() if key != where.split('.')[0]], keys, widths)

    if library != 'mmpretrain':
        size = 128 if library == 'mmdet' else 64
    elif swin:
        size = backbone.get('img_size', 224)  # windows of classifiers divide the image
    else:
        size = 4 * backbone.get('patch_size', 16)
    if not swin:
        backbone.img_size = size
    if 'num_queries' in model:  # not more than a small image has tokens
        model.num_queries = model.test_cfg.max_per_img = 100
    _set_image_size(model, size)
    return backbone.get('in_channels', 3), size, size


def _reduce_backbone(backbone: ConfigDict, library: str) -> dict[int, int]:
    """Shrinks the backbone in place; gives the numbers of channels of its outputs, before -> after."""
    if 'arch' in backbone:
        arch = backbone.arch
        if isinstance(arch, str):
            arch = library_models(library).get(backbone.type).arch_zoo[arch]
        backbone.arch = {key: value // SHRINK if key in ('embed_dims', 'feedforward_channels') else value
                         for key, value in arch.items()}
    else:
        arch = dict(backbone)
        backbone.embed_dims //= SHRINK
    outputs = [arch['embed_dims'] * 2**stage for stage in range(len(arch.get('depths', [0])))]
    return {width: width // SHRINK for width in outputs}


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
    """Removes every ``init_cfg`` that would load a file."""
    if isinstance(node, dict):
        if str((node.get('init_cfg') or {}).get('type') if isinstance(node.get('init_cfg'), dict) else ''
               ).startswith('Pretrained'):
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


# ------------------------------------------------------------------------------------------------ running

def make_batch(model: ConfigDict, library: str, shape: tuple[int, int, int]) -> dict:
    """Two random images with annotations, as a data loader gives them."""
    if library == 'mmdet':
        from mmdet.testing import demo_mm_inputs, demo_track_inputs
        if model.type == 'Mask2FormerVideo':
            return demo_track_inputs(image_shapes=shape, num_classes=2, with_mask=True)
        masks = 'panoptic_head' in model or 'mask_head' in model.get('roi_head', {})
        texts = ['cat . dog .'] * 2 if 'language_model' in model else None
        batch = demo_mm_inputs(2, shape, num_items=[3, 3], num_classes=2, with_mask=masks, texts=texts,
                               with_semantic='panoptic_head' in model, custom_entities=True)
        for sample in batch['data_samples']:
            sample.gt_instances.labels.zero_()
        return batch
    images = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(2)]
    if library == 'mmseg':
        from mmseg.structures import SegDataSample
        meta = dict(img_shape=shape[1:], ori_shape=shape[1:], pad_shape=shape[1:], scale_factor=(1., 1.), flip=False)
        samples = [SegDataSample(metainfo=meta) for _ in images]
        for sample in samples:
            sample.gt_sem_seg = PixelData(data=torch.randint(0, 2, (1, *shape[1:])))
    else:
        from mmpretrain.structures import DataSample
        samples = [DataSample().set_gt_label(i) for i in range(2)]
    return dict(inputs=images, data_samples=samples)


def needs_mending(model: ConfigDict) -> bool:
    """In mmdet 3.5.1 the decoder of GroundingDINO has a layer that takes half of what the decoder gives it."""
    return model.type == 'GroundingDINO' and importlib.import_module('mmdet').__version__ == '3.5.1'


def mend_decoder(decoder: nn.Module) -> None:
    from mmdet.models.layers.transformer.utils import MLP
    decoder.ref_point_head = MLP(decoder.embed_dims * 4, decoder.embed_dims, decoder.embed_dims, 2)


class KeepGradients(OptimWrapper):
    """Leaves the gradients of a training step to be looked at."""

    def zero_grad(self, **kwargs) -> None:
        pass


def predict(model: nn.Module, batch: dict) -> None:
    """Predicts one image, as some detectors take no more at once."""
    model.eval()
    with torch.no_grad():
        model.val_step({key: copy.deepcopy(value[:1]) for key, value in batch.items()})


def train(model: nn.Module, batch: dict) -> None:
    """Takes a training step on all images."""
    model.train()
    _check_finite(model.train_step(copy.deepcopy(batch), KeepGradients(torch.optim.SGD(model.parameters(), lr=1e-4))))


def run_features(module: nn.Module, images: torch.Tensor) -> None:
    """Computes the features, in evaluation and in training with a backward pass from their mean square."""
    module.eval()
    with torch.no_grad():
        module(images)
    module.train()
    loss = sum(feature.square().mean() for feature in _tensors(module(images)))
    if loss.requires_grad:
        loss.backward()
    _check_finite(dict(loss=loss))


def _tensors(outputs: object) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else [t for part in outputs for t in _tensors(part)]


def _check_finite(losses: dict) -> None:
    wrong = [name for name, value in losses.items() if not math.isfinite(value.item())]
    if wrong:
        raise ArithmeticError(f'no finite value in {", ".join(wrong)}')


class Trial:
    """One config at reduced size, to be run before and after the change.

    Args:
        library (str): The library whose config it is.
        model (ConfigDict): Its model, changed in place.
        folder (str): Where the base's weights may be written.
    """

    def __init__(self, library: str, model: ConfigDict, folder: str) -> None:
        self.library, self.model = library, model
        self.where, backbone = find_backbone(model)
        self.type = backbone.type
        self.pretrained = model.pop('pretrained', None) is not None  # how mmseg names the file
        self.in_parts = model.type == 'MultimodalEncoderDecoder'  # which needs one file for all its parts
        backbone.pop('pretrained', None)
        drop_pretrained(model)
        if model.type in ('GLIP', 'GroundingDINO') and small_bert():
            model.language_model.name = small_bert()
            if model.type == 'GLIP':
                model.bbox_head.lang_model_name = small_bert()
            else:
                model.encoder.num_cp = 0  # its checkpointing needs fairscale
                model.use_autocast = False  # it is that of GPUs
        self.mend = needs_mending(model)
        self.shape = reduce_model(model, self.where, library)
        headless = model.type == 'ImageClassifier' and model.get('head') is None
        self.modes = [FEATURES, ALONE] if headless else [WHOLE, PREDICTION, ALONE]
        self._write_base(Path(folder) / 'base.pth')

    def _write_base(self, path: Path) -> None:
        """Random weights of the unchanged backbone: noise on norms and biases too, so that no mix-up stays unseen."""
        base = MODELS.build(copy.deepcopy(find_backbone(self.model)[1]))
        base.init_weights()
        with torch.no_grad():
            for parameter in base.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        self.base, self.file = base.state_dict(), str(path)
        content = self.base
        if self.in_parts:
            # some of its parts are not initialised but by a file
            content = {name: torch.randn(value.shape) * 0.02 if value.is_floating_point() else value
                       for name, value in MODELS.build(copy.deepcopy(self.model)).state_dict().items()}
            content.update({f'{self.where}.{name}': value for name, value in self.base.items()})
        torch.save(content, path)

    def run(self, mode: str, ours: bool) -> set[str]:
        """Builds, initialises and runs; gives the parameters of the backbone that the gradient reached."""
        torch.manual_seed(0)
        model = copy.deepcopy(self.model)
        if ours:
            self._change(model)
        if self.pretrained and mode != ALONE and (ours or self.in_parts):
            model.pretrained = self.file
        elif ours:
            kind = 'Pretrained_Part' if self.in_parts else 'Pretrained'
            find_backbone(model)[1].init_cfg = dict(type=kind, checkpoint=self.file)
        config = find_backbone(model)[1] if mode == ALONE else model
        module = revert_sync_batchnorm(MODELS.build(config))
        if self.mend and mode != ALONE:
            mend_decoder(module.decoder)
        module.init_weights()
        backbone = module if mode == ALONE else module.get_submodule(self.where)
        if ours:
            self._check_loaded(backbone)
        if mode in (WHOLE, PREDICTION):
            batch = make_batch(model, self.library, self.shape)
            predict(module, batch)
            if mode == WHOLE:
                train(module, batch)
        else:
            run_features(module, torch.randn(2, *self.shape))
        return {name for name, parameter in backbone.named_parameters()
                if parameter.grad is not None and '.positions.' not in name}

    def _change(self, model: ConfigDict) -> None:
        """The three lines."""
        backbone = find_backbone(model)[1]
        name = self.type.rpartition('.')[2]
        backbone.update(type=f'mmscalenet.{TWINS[name]}', scale=2)
        if name == 'DistilledVisionTransformer' or '.' in self.type:
            backbone.base = self.type if '.' in self.type else f'{self.library}.{name}'

    def _check_loaded(self, backbone: nn.Module) -> None:
        state = {name.replace('.original_layer.', '.'): value for name, value in backbone.state_dict().items()}
        wrong = [name for name, value in self.base.items() if name not in state or not torch.equal(state[name], value)]
        if wrong:
            raise ValueError(f'{len(wrong)} of {len(self.base)} tensors of the base were not loaded, e.g. {wrong[0]}')
        new = [name for name in state if name not in self.base and '.positions.' not in name and '.lora_' not in name]
        if new:
            raise ValueError(f'{len(new)} tensors of the expanded backbone have no source, e.g. {new[0]}')


#: Model that this process has run -> name of its config and the result.
_KNOWN: dict[str, tuple[str, dict]] = {}


def check_config(library: str, path: str) -> dict | None:
    """Runs one config before and after the change; None if its backbone is of another kind.

    Returns:
        dict: ``backbone``, ``ran`` (what of the model), ``before`` and ``after`` (empty, or the error), ``note``
        (why not more of it ran) and ``seconds``.
    """
    start = time.perf_counter()
    row = dict(backbone='', ran='nothing', before='', after='not tried', note='', seconds=0.)
    try:
        cfg = Config.fromfile(path)
        if find_backbone(cfg.get('model')) is None:
            return None
        row['backbone'] = find_backbone(cfg.model)[1].type
        init_default_scope(library)
        if cfg.get('data_preprocessor'):
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        model = f'{library} {cfg.model}'
        if model in _KNOWN:  # e.g. the same detector for another dataset
            known, row = _KNOWN[model]
            return dict(row, note=row['note'] or f'the same model as {known}', seconds=0.)
        _KNOWN[model] = Path(path).name, row
        with tempfile.TemporaryDirectory() as folder:
            _try_modes(Trial(library, cfg.model, folder), row)
    except Exception as error:
        row['before'] = describe(error)
    row['seconds'] = round(time.perf_counter() - start, 1)
    return row


def _try_modes(trial: Trial, row: dict) -> None:
    for mode in trial.modes:
        row['ran'] = mode + ', mended' * (trial.mend and mode != ALONE)
        try:
            reached = trial.run(mode, ours=False)
        except Exception as error:
            row['note'] = row['note'] or describe(error)
            continue
        try:
            lost = reached ^ trial.run(mode, ours=True)
            row['after'] = f'the gradient reaches other parameters than before: {sorted(lost)[:3]}' if lost else ''
        except Exception as error:
            row['after'] = describe(error)
        return
    row['before'] = row['note']


def describe(error: Exception) -> str:
    text = re.sub(r'\s+', ' ', f'{type(error).__name__}: {error}').replace('|', '/')
    return text if len(text) <= 240 else f'{text[:237]}...'


# ------------------------------------------------------------------------------------------------ walking

class Worker:
    """A process that checks configs one after another, and is replaced when one takes too long or kills it."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context('spawn')
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, ), daemon=True)
        self.process.start()
        other.close()

    def check(self, library: str, path: str, limit: float) -> dict | None:
        try:
            self.pipe.send((library, path))
            if self.pipe.poll(limit):
                return self.pipe.recv()
            error = f'took more than {limit:g} s'
        except (EOFError, OSError):
            error = 'the process died, e.g. of too little memory'
        self.process.kill()
        self.process.join()
        self._start()
        return dict(backbone='?', ran=WHOLE, before=error, after=error, note='', seconds=limit)


def serve(pipe: multiprocessing.connection.Connection) -> None:
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, 'w')
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(check_config(*task))
        gc.collect()


def list_configs(args: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Library, name and path of every config to look at."""
    for path in args.configs:
        yield Config.fromfile(path).get('default_scope', 'mmengine'), path, path
    for library in [] if args.configs else args.library:
        folder = config_folder(library)
        for path in sorted(folder.rglob('*.py')):
            name = str(path.relative_to(folder))
            if '_base_' not in path.parts and re.search(args.filter, name):
                yield library, name, str(path)


def versions() -> dict[str, str]:
    """What the results depend on."""
    distributions = importlib.metadata.packages_distributions()
    return {name: importlib.metadata.version(distributions[name][0]) if name in distributions else 'not installed'
            for name in (*LIBRARIES, 'torch', 'transformers')}


def walk(args: argparse.Namespace) -> dict[str, dict]:
    """Checks every config, and writes results and table after each; gives the results by library and name."""
    cache_file, now = Path(args.cache or Path(args.out).with_suffix('.json')), versions()
    known = json.loads(cache_file.read_text()) if cache_file.exists() else {}
    results = known['results'] if known.get('versions') == now else {}
    configs = {f'{library} {name}': (library, path) for library, name, path in list_configs(args)}
    own, lock = threading.local(), threading.Lock()

    def save() -> dict[str, dict]:
        done = {key: results[key] for key in configs if key in results}
        rows = {key: row for key, row in done.items() if row is not None}
        with whole_file(cache_file) as temporary:
            temporary.write_text(json.dumps(dict(versions=now, results=results), indent=1))
        with whole_file(args.out) as temporary:
            temporary.write_text(report(rows, f'{len(done)} of {len(configs)} config files looked at, {len(rows)} of '
                                        f'them in the table.', now))
        return rows

    def check(key: str) -> None:
        library, path = configs[key]
        if not hasattr(own, 'worker'):
            own.worker = Worker()
        row = own.worker.check(library, path, args.limit)
        with lock:
            results[key] = row
            save()
            if row is not None:
                print(f'{key}  {row["ran"]}  before: {row["before"] or "yes"}  after: {row["after"] or "yes"}  '
                      f'{row["seconds"]:.1f} s', flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(check, [key for key in configs if key not in results or _failed(results[key])]))
    return save()


def _failed(row: dict | None) -> bool:
    return row is not None and bool(row['before'] or row['after'])


# ------------------------------------------------------------------------------------------------ reporting

def report(rows: dict[str, dict], extent: str, now: dict[str, str]) -> str:
    """The page: command, versions, totals and the table."""
    lines = ['# Drop-in', '', '```shell', f'python {shlex.join(sys.argv)}', '```', '',
             ', '.join(f'{name} {version}' for name, version in now.items()) + f'. {extent}', '',
             *totals(rows), '', '| library | config | base backbone | what ran | before | after | seconds | remark |',
             '|---|---|---|---|---|---|---:|---|']
    for key, row in rows.items():
        library, name = key.split(maxsplit=1)
        lines.append(f'| {library} | {name} | {row["backbone"]} | {row["ran"]} | {row["before"] or "yes"} | '
                     f'{row["after"] or "yes"} | {row["seconds"]:.1f} | {row["note"]} |')
    return '\n'.join([*lines, ''])


def totals(rows: dict[str, dict]) -> list[str]:
    groups = sorted({(key.split()[0], row['ran']) for key, row in rows.items()})
    lines = ['| library | what ran | configs | before | after |', '|---|---|---:|---:|---:|']
    for library, ran in [*groups, ('all', '')]:
        chosen = [row for key, row in rows.items() if not ran or (key.split()[0], row['ran']) == (library, ran)]
        lines.append(f'| {library} | {ran} | {len(chosen)} | {sum(not row["before"] for row in chosen)} | '
                     f'{sum(not row["before"] and not row["after"] for row in chosen)} |')
    return lines


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', help='config files of your own, instead of those that ship')
    parser.add_argument('--library', nargs='+', choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument('--filter', default='', help='regular expression that the path of a config must contain')
    parser.add_argument('--out', required=True, help='markdown file to write')
    parser.add_argument('--cache', help='json file in which results are kept; default: beside the markdown file')
    parser.add_argument('--jobs', type=int, default=1, help='configs at the same time; default: 1')
    parser.add_argument('--limit', type=float, default=300, help='seconds a config may take; default: 300')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    os.environ['HF_HUB_OFFLINE'] = '1'  # for the workers: nothing is downloaded
    rows = walk(args)
    print('\n'.join(totals(rows)))
    print(f'wrote {args.out}')
    return int(any(row['after'] for row in rows.values() if not row['before']))


if __name__ == '__main__':
    sys.exit(main())
