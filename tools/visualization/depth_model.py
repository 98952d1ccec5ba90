"""A trained model that predicts at any of its depths and says what each costs; the page of demo_page.py shows it."""
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from mmengine.structures import BaseDataElement

from mmscalenet.apis import Inferencer
from mmscalenet.engine.depth import expanded_backbones

#: Largest image, in pixels: masks and maps of all classes are made at its size, and a larger one could take all memory.
MOST_PIXELS = 25_000_000
#: Most depths that are timed: so many from the smallest to the largest.
MOST_TIMED = 9
#: Runs of each depth whose median is its time; one before them does not count.
ROUNDS = 3


class DepthModel:
    """A trained model whose depth is chosen for each image.

    Args:
        inferencer (Inferencer): The model. A grown backbone in it is set to another depth at each call.

    Attributes:
        depths (list[int]): The depths at which it can run, ascending; empty if it is not grown.
        depth (int): The one that config or checkpoint says, 0 if it is not grown.
    """

    def __init__(self, inferencer: Inferencer) -> None:
        self.inferencer = inferencer
        self.backbones = list(expanded_backbones(inferencer.model).values())
        known = [set(backbone.runnable_depths()) for backbone in self.backbones]
        self.depths = sorted(set.intersection(*known)) if known else []
        self.depth = sum(self.backbones[0].active_depth) if known else 0

    def load(self, path: str) -> np.ndarray:
        """Reads an image as the test pipeline does.

        Raises:
            ValueError: If it cannot be read or is too large.
        """
        try:
            image = self.inferencer.load(path)
        except ValueError as error:
            raise ValueError(str(error).replace(path, Path(path).name)) from error
        height, width = image.shape[:2]
        if height * width > MOST_PIXELS:
            raise ValueError(f'The image has {width} x {height} pixels, and this page takes {MOST_PIXELS // 10**6} '
                             'million at most. Make it smaller, or use "mmscalenet image_demo".')
        return image

    def __call__(self, image: np.ndarray, depth: int | None) -> tuple[BaseDataElement, float]:
        """The prediction at a depth, and the seconds that it took, from the pipeline to the result.

        Args:
            image (np.ndarray): As :meth:`load` gives it.
            depth (int, optional): One of ``depths``; None for a model that is not grown.
        """
        self.set_depth(depth)
        start = time.perf_counter()
        sample, = self.inferencer([image])  # on the CPU: a GPU has done its work
        return sample, time.perf_counter() - start

    def set_depth(self, depth: int | None) -> None:
        for backbone in self.backbones:
            backbone.set_depth(depth)

    def nearest(self, depth: float) -> int:
        """The depth at which it can run that is nearest to another one; of two the smaller."""
        return min(self.depths, key=lambda known: (abs(known - depth), known))

    def times(self, image: np.ndarray, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> list[list]:
        """Depth, multiply-adds of the backbone in G, and milliseconds of several depths, ascending.

        The depths run in turn, so that a machine whose speed drifts favours none.

        Args:
            image (np.ndarray): As :meth:`load` gives it.
            progress (Callable): Passes on the rounds and shows how far they are. Defaults to ``iter``.
        """
        from get_flops import count_multiply_adds

        depths = spread(self.depths, MOST_TIMED)
        rounds = [[self(image, depth)[1] for depth in depths] for _ in progress(range(ROUNDS + 1))]
        rows, shape = [], self.input_shape(image)
        for depth, seconds in zip(depths, zip(*rounds[1:], strict=True), strict=True):
            self.set_depth(depth)
            multiply_adds = count_multiply_adds(self.backbones[0], shape)
            rows.append([depth, float(f'{multiply_adds / 1e9:.4g}'), round(1000 * statistics.median(seconds), 1)])
        return rows

    def input_shape(self, image: np.ndarray) -> tuple[int, ...]:
        """Channels, height and width of an image where it enters the backbone."""
        shapes = []
        hook = self.backbones[0].register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape[1:])))
        try:
            self(image, self.depths[0])
        finally:
            hook.remove()
        return shapes[0]


def spread(values: list[int], most: int) -> list[int]:
    """At most so many of the values, evenly, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
