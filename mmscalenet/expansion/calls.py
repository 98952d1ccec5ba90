"""Positions as a list of them yields them to its parent's loop, where they need more than that gives them."""
from torch import Tensor, nn


class Call:
    """A position that is called in another way; its attributes are the position's."""

    def __init__(self, position: nn.Module, **own) -> None:
        for name, value in dict(position=position, **own).items():
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> object:
        if name == 'position':  # not yet, in a copy
            raise AttributeError(name)
        return getattr(self.position, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.position, name, value)


class WithGrid(Call):
    """A windowed position that is given the rows and columns of the image, so that it is recomputed with them, too."""

    def __call__(self, x: Tensor) -> Tensor:
        return self.position(x, self.position.around_attention.hw_shape)
