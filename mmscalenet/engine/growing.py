"""A run of a base grown in the middle: the checkpoint that its grown model goes on from."""
from os import PathLike

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmscalenet.checkpoints import CheckpointError
from mmscalenet.checkpoints.errors import some
from mmscalenet.checkpoints.formats import state_dict_in

from .checkpoint_reading import read_run
from .cli import library_of
from .grown_optimizer import grow_optimizer, model_config
from .hooks.start_weights_hook import fit_weights, load_whole
from .optimizers.library_decay import let_libraries_count_positions

#: What mmengine's checkpoint hook notes. It deletes the files that it names, and those are of the run that was grown.
_OF_THE_FILES = ('best_ckpt', 'best_score', 'keep_ckpt_ids', 'last_ckpt')


def grow_checkpoint(checkpoint: str | PathLike, cfg: Config, weights_only: bool = False) -> dict:
    """Make from the checkpoint of a run that of its grown model, for ``tools/train.py GROWN_CONFIG --resume FILE``.

    - Weights: the backbone's as ``load_from`` takes them, all of the rest by their names; what positions own starts
      anew, from ``randomness.seed`` of ``cfg``, if it has one, or the run's.
    - Optimizer: a parameter keeps its state (AdamW's moments, SGD's momentum), found by its name; a copied block
      (``share=False``) and own norms (``unshare='norms'``) begin with that of their block; what is new has none.
      Learning rates and decays are those of ``cfg``, scaled as the run's were by ``auto_scale_lr``.
    - Schedules: those of ``cfg``, at the iteration of the run.
    - Iteration, epoch and what the logger averages go on. The best checkpoint is looked for anew.
    - EMA: the averaged and the trained weights are grown alike.

    Args:
        checkpoint (str | PathLike): Path or URL of the run's checkpoint. Read without running code in it, unless
            ``cfg`` says ``trusted = True``.
        cfg (Config): The grown model's config, of mmpretrain, mmdet or mmseg. Its loader makes batches as the run's.
        weights_only (bool): Whether to leave out all but the weights. Defaults to False.

    Returns:
        dict: What to save. With ``weights_only``, or of a file without an optimizer, from which no run can go on,
        ``state_dict`` alone.

    Raises:
        CheckpointError: If the file cannot be read, or does not fit.
        ResumeError: If the optimizer or a schedule cannot go on; the message says why.
    """
    let_libraries_count_positions(cfg)
    name = str(checkpoint)
    run = read_run(name, cfg.get('trusted', False))
    meta = run['meta'] if isinstance(run.get('meta'), dict) else {}
    seed = (cfg.get('randomness') or {}).get('seed')
    seed = (meta.get('seed') or 0) if seed is None else seed
    with DefaultScope.overwrite_default_scope(library_of(cfg)), torch.random.fork_rng(devices=[]):
        model, state = _grow_weights(cfg, run, name, seed)
        grown = dict(state_dict=state)
        if weights_only or not is_run(run) or cfg.get('optim_wrapper') is None:
            return grown
        if 'ema_state_dict' in run:  # state_dict holds the average then, and this what is trained
            ema = run['ema_state_dict']
            trained = {key.removeprefix('module.'): value for key, value in ema.items() if key.startswith('module.')}
            _, trained = _grow_weights(cfg, dict(state_dict=trained), name, seed)
            grown['ema_state_dict'] = {
                **{key: value for key, value in ema.items() if not key.startswith('module.')},
                **{f'module.{key}': value for key, value in trained.items()}}
        grown['optimizer'], schedules = grow_optimizer(model, cfg, run)
    if schedules is not None:
        grown['param_schedulers'] = schedules
    grown['message_hub'] = _grow_message_hub(run['message_hub'], cfg)
    # but for the depth at which the base ran
    grown['meta'] = {key: value for key, value in meta.items() if key != 'depth'} | dict(cfg=cfg.pretty_text)
    return grown


def is_run(checkpoint: dict) -> bool:
    """Whether what a checkpoint holds is a run that can go on, not weights alone."""
    meta = checkpoint.get('meta')
    return {'optimizer', 'message_hub'} <= checkpoint.keys() and isinstance(meta, dict) \
        and {'epoch', 'iter'} <= meta.keys()


def _grow_weights(cfg: Config, checkpoint: dict, name: str, seed: int) -> tuple[nn.Module, dict[str, Tensor]]:
    if any('.positions.' in key for key in state_dict_in(checkpoint)):
        raise CheckpointError(f'{name} is of a grown model. Grow the base that it came from, to the depth you want')
    torch.manual_seed(seed)
    model = MODELS.build(model_config(cfg))
    state = fit_weights(model, checkpoint, name)
    load_whole(model, state, name)
    if left := [key for key in state if key not in model.state_dict()]:
        raise CheckpointError(f'{name} does not fit the config, whose model has no place for {some(left)}. Give the '
                              'config of the run, with nothing but the backbone grown')
    return model, {key: value.clone() for key, value in model.state_dict().items()}


def _grow_message_hub(hub: dict, cfg: Config) -> dict:
    def keep(entries: dict) -> dict:
        return {key: value for key, value in entries.items() if not key.startswith(_OF_THE_FILES)}

    hub = {part: keep(entries) for part, entries in hub.items()}
    if 'cfg' in hub['runtime_info']:
        hub['runtime_info']['cfg'] = cfg.pretty_text
    return hub
