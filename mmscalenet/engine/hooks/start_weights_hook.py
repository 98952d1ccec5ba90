"""The weights that a run starts from, in the names and sizes of its backbone."""
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmscalenet.checkpoints import load_content
from mmscalenet.models.backbones.scalenet import ScaleNet


class StartWeightsHook(Hook):
    """``load_from`` and tools/test.py take for a ScaleNet what its ``init_cfg`` takes, and refuse what that refuses.

    mmengine copies the tensors whose names and shapes agree, warns of the others and goes on, with a backbone of random
    weights if it comes to that. Heads are still loaded so, as fine-tuning on other classes needs it. What ``--resume``
    loads was written by the same run and stays as it is.

    Raises:
        CheckpointError: If the backbone in the checkpoint does not fit.
    """
    priority = 'VERY_HIGH'  # before EMAHook, which copies the weights

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        state = {str(name).removeprefix('module.'): value
                 for name, value in checkpoint.get('state_dict', checkpoint).items()}
        for name, module in model.named_modules():
            if not isinstance(module, ScaleNet):
                continue
            part = {key: value for key, value in state.items() if key.startswith(f'{name}.')}
            if part:
                load_content(module, part, runner._load_from, name)
                state = {key: value for key, value in state.items() if key not in part}
            else:  # the file of a backbone alone, or of a model that has another name for it
                load_content(module, checkpoint, runner._load_from)
                state = {key: value for key, value in state.items() if key in model.state_dict()}
            state.update((f'{name}.{key}', value) for key, value in module.state_dict().items())
        checkpoint['state_dict'] = state
