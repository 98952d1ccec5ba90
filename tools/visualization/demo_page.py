"""Try a trained model in the browser: drop an image, see boxes, masks or classes, and move the depth.

A page on this machine, for configs of mmpretrain, mmdet and mmseg; nobody else can reach it, and nothing leaves the
machine. The depths of a grown model are on a slider, and a button times them on the image. Needs Gradio: python -m pip
install "mmscalenet[demo]".

    python tools/visualization/demo_page.py configs/mask_rcnn_scalenet_swin.py epoch_12.pth
"""
import argparse
import math
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mmengine.config import Config
from mmengine.logging import MMLogger

import mmscalenet  # noqa: F401  our names exist even where a config forgot custom_imports
from mmscalenet.apis import Inferencer
from mmscalenet.engine import UsageError, check_checkpoint, one_line_errors, read_config

if TYPE_CHECKING:
    import gradio

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / 'analysis_tools')]

from depth_model import DepthModel  # noqa: E402


def found(result: dict) -> str:
    """What is in an image, in words: objects, or the shares of the classes; nothing of a classifier, which has bars."""
    if 'names' in result:
        counts = Counter(result['names']).most_common()
        return ', '.join(f'{count} × {name}' for name, count in counts) or 'nothing found with such a score'
    return ', '.join(f'{entry["name"]} {entry["share"]:.0%}' for entry in result.get('classes', ())[:5])


def build_page(model: DepthModel, title: str) -> 'gradio.Blocks':
    """The page of a model; ``launch()`` serves it."""
    import gradio as gr

    scope = model.inferencer.draw_rgb.scope
    low, *_, high = model.depths or [0, 0]

    def image_of(path: str) -> np.ndarray:
        try:
            return model.load(path)
        except ValueError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error

    def predict(path: str | None, depth: float, score: float) -> tuple[object, str]:
        """What is seen in an image: classes with their scores, or a picture; and a line with depth and time."""
        if path is None:
            return None, ''
        image = image_of(path)
        depth = model.nearest(depth) if model.depths else None
        sample, seconds = model(image, depth)
        try:
            result = model.inferencer.describe(sample, score)
        except ValueError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error
        line = ' · '.join(filter(None, [
            depth and f'**Depth {depth}** of {high}', f'{1000 * seconds:.0f} ms', found(result)]))
        if scope == 'mmpretrain':
            return {entry['name']: entry['score'] for entry in result['top5']}, line
        return model.inferencer.draw(image, sample, score), line

    def measure(path: str | None, progress: 'gradio.Progress' = gr.Progress()) -> list[list]:
        """Depth, multiply-adds of the backbone (G) and time of the whole model (ms), timed on an image."""
        if path is None:
            raise gr.Error('Drop an image first: depths are timed on it.', print_exception=False)
        return model.times(image_of(path), lambda rounds: progress.tqdm(rounds, desc='round', unit=''))

    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(f'## {title}\n{about(model)}')
        with gr.Row():
            with gr.Column():
                image = gr.Image(label='image', type='filepath', height=360)
                # the file as it is: Gradio would open it, and where it cannot say so in ten lines
                image.preprocess = lambda file: file and file.path
                depth = gr.Slider(
                    low, max(high, low + 1), model.nearest(model.depth) if model.depths else low,
                    step=step(model.depths), label='depth', visible=low < high,
                    info='positions of the backbone that run, from those of the base to all of the grown net')
                score = gr.Slider(0, 1, 0.3, step=0.05, label='score', visible=scope == 'mmdet',
                                  info='objects with a score up to this are left out')
            with gr.Column():
                shown = (gr.Label(label='classes') if scope == 'mmpretrain' else
                         gr.Image(label='prediction', format='png', height=360, buttons=['download', 'fullscreen']))
                line = gr.Markdown()
                button = gr.Button('Time the depths on this image', visible=low < high)
                table = gr.Dataframe(headers=['depth', 'multiply-adds of the backbone (G)', 'time (ms)'],
                                     datatype='number', label='time of each depth', interactive=False,
                                     visible=low < high)
        one_at_a_time = dict(concurrency_id='model', concurrency_limit=1)  # as the depth is the model's
        gr.on([image.change, depth.change, score.change], predict, [image, depth, score], [shown, line],
              api_name='predict', trigger_mode='always_last', **one_at_a_time)
        button.click(measure, image, table, api_name='times', **one_at_a_time)
    return page


def about(model: DepthModel) -> str:
    """The model in a line, with the reason where it has no depth to choose."""
    whole = model.inferencer.model
    backbone = type(getattr(whole, 'backbone', None)).__name__.split('_')[0]  # without the parent's name
    text = f'{type(whole).__name__} with a {backbone} on {next(whole.parameters()).device}'
    if not model.backbones:
        return f'{text}, which is not grown: it runs at one depth.'
    return text if len(model.depths) > 1 else f'{text}, which runs at one depth: {model.depth}.'


def step(depths: list[int]) -> int:
    """The largest step that meets all depths from the first on."""
    return math.gcd(*(depth - depths[0] for depth in depths)) or 1


def import_gradio() -> None:
    """Look whether Gradio is there.

    Raises:
        UsageError: If it is not.
    """
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f'the page needs Gradio, and "{error.name}" is not installed: python -m pip install '
                         '"mmscalenet[demo]", or in a checkout -r requirements/demo.txt.') from error


def load(cfg: Config, checkpoint: str, device: str | None) -> DepthModel:
    try:
        return DepthModel(Inferencer(cfg, checkpoint, device))
    except ValueError as error:
        raise UsageError(str(error)) from error


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file; no other weights are needed')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ...; default: a GPU if there is one')
    parser.add_argument('--port', type=int, help='default: the first free one from 7860 on')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    from image_demo import check_device

    args = parse_args()
    if args.port is not None and not 0 < args.port < 65536:
        raise UsageError(f'--port {args.port} is not allowed: ports are from 1 to 65535.')
    import_gradio()
    check_device(args.device)
    check_checkpoint(args.checkpoint, 'checkpoint')
    MMLogger.get_instance('demo_page', log_level='WARNING')
    model = load(read_config(args.config), args.checkpoint, args.device)
    page = build_page(model, Path(args.config).stem)
    try:
        page.launch(server_name='127.0.0.1', server_port=args.port, share=False, ssr_mode=False, show_error=True,
                    quiet=True, prevent_thread_lock=True)
    except OSError as error:
        raise UsageError(f'no port is free: {error}') from error
    print(f'Open {page.local_url} in a browser of this machine; Ctrl-C ends the page.', flush=True)
    page.block_thread()


if __name__ == '__main__':
    main()
