"""Whether a compiler looks on."""
import torch


def is_compiling() -> bool:
    """As torch's; the first that this package is tested with have no such function, and compile no such model."""
    return hasattr(torch.compiler, 'is_compiling') and torch.compiler.is_compiling()
