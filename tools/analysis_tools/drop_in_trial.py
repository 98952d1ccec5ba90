"""One config before and after the change, for check_drop_in.py."""
import copy
import importlib
import math
import tempfile
import time
from pathlib import Path

import torch
import torch.nn as nn
from drop_in_optimizer import difference, learning_rates
from drop_in_pretraining import pretraining_batch, pretrains, training_pipeline, unmasked
from drop_in_reasons import describe
from drop_in_reduce import class_of, drop_pretrained, find_backbone, part_of, reduce_model, small_bert
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

from mmscalenet.engine.cli import full_type
from mmscalenet.engine.grown_config import scalenet_options
from mmscalenet.expansion.families import refusal

WHOLE, TRAINING, PREDICTION = 'whole model', 'training', 'prediction'
FEATURES, ALONE, REFUSED = 'features', 'backbone alone', 'refused'


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
    options = unmasked(module)
    module.eval()
    with torch.no_grad():
        module(images, **options)
    module.train()
    loss = sum(feature.square().mean() for feature in _tensors(module(images, **options)))
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
        cfg (Config): The config; its model is changed in place.
        folder (str): Where the base's weights may be written.
    """

    def __init__(self, library: str, cfg: Config, folder: str) -> None:
        self.library, self.model, self.pipeline = library, cfg.model, training_pipeline(cfg)
        self.optim_wrapper = cfg.get('optim_wrapper') or {}
        model = self.model
        self.where = find_backbone(model, library)
        backbone = self._backbone(model)
        self.change = grown_type(library, backbone)
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
        self.pretrains = pretrains(model, library)
        self.modes = ([TRAINING, ALONE] if self.pretrains else [FEATURES, ALONE] if headless
                      else [WHOLE, PREDICTION, ALONE])
        self._write_base(Path(folder) / 'base.pth')

    def _backbone(self, model: ConfigDict) -> ConfigDict:
        return part_of(model, self.where)

    def _write_base(self, path: Path) -> None:
        """Random weights of the unchanged backbone: noise on norms and biases too, so that no mix-up stays unseen."""
        base = MODELS.build(copy.deepcopy(self._backbone(self.model)))
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

    def run(self, mode: str, ours: bool) -> tuple[nn.Module, set[str]]:
        """Builds, initialises and runs; gives the module and the backbone's parameters that the gradient reached."""
        torch.manual_seed(0)
        model = copy.deepcopy(self.model)
        if ours:
            self._backbone(model).update(self.change, scale=2)  # the three lines
        if self.pretrained and mode != ALONE and (ours or self.in_parts):
            model.pretrained = self.file
        elif ours or self.pretrains:  # without a file a MoCo freezes its position embeddings
            kind = 'Pretrained_Part' if self.in_parts else 'Pretrained'
            self._backbone(model).init_cfg = dict(type=kind, checkpoint=self.file)
        config = self._backbone(model) if mode == ALONE else model
        module = revert_sync_batchnorm(MODELS.build(config))
        if self.mend and mode != ALONE:
            mend_decoder(module.decoder)
        module.init_weights()
        backbone = module if mode == ALONE else module.get_submodule(self.where)
        if ours:
            self._check_loaded(backbone)
        if mode == TRAINING:
            train(module, pretraining_batch(model, self.pipeline, self.shape))
        elif mode in (WHOLE, PREDICTION):
            batch = make_batch(model, self.library, self.shape)
            predict(module, batch)
            if mode == WHOLE:
                train(module, batch)
        else:
            run_features(module, torch.randn(2, *self.shape))
        return module, {name for name, parameter in backbone.named_parameters()
                        if parameter.grad is not None and '.positions.' not in name}

    def learning_rates(self, module: nn.Module) -> dict[str, tuple[float, float]]:
        """What the config's optimizer makes of each parameter of the whole model; empty without one."""
        return learning_rates(module, self.optim_wrapper, self.library) if self.optim_wrapper else {}

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


def grown_type(library: str, backbone: ConfigDict) -> dict[str, str]:
    """What makes the backbone of one of a library's configs a ScaleNet: its type, and the base."""
    return scalenet_options(Config(dict(default_scope=library, model=dict(backbone=backbone))))


def check_config(library: str, path: str, types: list[str]) -> dict | None:
    """Runs one config before and after the change; None if its backbone is of another kind.

    Args:
        library (str): The library whose config it is.
        path (str): The file.
        types (list[str]): What the backbone may become: ScaleNet, ScaleNetDeiT, ScaleNetSwin.

    Returns:
        dict: ``backbone``, ``ran`` (what of the model), ``before`` and ``after`` (empty, or the error), ``note``
        (why not more of it ran) and ``seconds``.
    """
    start = time.perf_counter()
    row = dict(backbone='', ran='nothing', before='', after='not tried', note='', seconds=0.)
    try:
        cfg = Config.fromfile(path)
        where = find_backbone(cfg.get('model'), library)
        if where is None:
            return None
        backbone = part_of(cfg.model, where)
        reason = refusal(class_of(backbone, library))
        if ('ScaleNet' if reason else grown_type(library, backbone)['type'].partition('.')[2]) not in types:
            return None
        row['backbone'] = full_type(backbone)
        if reason:
            return dict(row, ran=REFUSED, before='not tried', note=reason)
        init_default_scope(library)
        if cfg.get('data_preprocessor'):
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        model = f'{library} {cfg.model} {cfg.get("optim_wrapper")}'
        if model in _KNOWN:  # e.g. the same detector for another dataset
            known, row = _KNOWN[model]
            return dict(row, note=row['note'] or f'the same model as {known}', seconds=0.)
        _KNOWN[model] = Path(path).name, row
        with tempfile.TemporaryDirectory() as folder:
            _try_modes(Trial(library, cfg, folder), row)
    except Exception as error:
        row['before'] = describe(error)
    row['seconds'] = round(time.perf_counter() - start, 1)
    return row


def _try_modes(trial: Trial, row: dict) -> None:
    for mode in trial.modes:
        row['ran'] = mode + ', mended' * (trial.mend and mode != ALONE)
        try:
            base, reached = trial.run(mode, ours=False)
        except Exception as error:
            row['note'] = row['note'] or describe(error)
            continue
        try:
            module, also_reached = trial.run(mode, ours=True)
            lost = reached ^ also_reached
            row['after'] = (f'the gradient reaches other parameters than before: {sorted(lost)[:3]}' if lost
                            else '' if mode == ALONE else _try_optimizer(trial, base, module, row))
        except Exception as error:
            row['after'] = describe(error)
        return
    row['before'] = row['note']


def _try_optimizer(trial: Trial, base: nn.Module, module: nn.Module, row: dict) -> str:
    """What the optimizer of the config does otherwise than before, or nothing."""
    try:
        before = trial.learning_rates(base)
    except Exception as error:
        row['note'] = row['note'] or f'Its optimizer cannot be built before either: {describe(error)}'
        return ''
    return difference(before, trial.learning_rates(module))
