"""The files of Fashion-MNIST, with 600 + 400 bright squares in them."""
import struct

import numpy as np


def small_data() -> dict[str, bytes]:
    """The four files of a data set in which the place of a square is the class."""
    files, rng = {}, np.random.default_rng(0)
    for split, count in (('train', 600), ('t10k', 400)):
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        images = rng.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[label * 2:label * 2 + 9, 4:24] += 150
        files[f'{split}-images-idx3-ubyte'] = struct.pack('>4I', 0x803, count, 28, 28) + images.tobytes()
        files[f'{split}-labels-idx1-ubyte'] = struct.pack('>2I', 0x801, count) + labels.tobytes()
    return files
