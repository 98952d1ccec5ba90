"""Where configs and tools are: in a checkout links to them, in an installed package the files."""
from pathlib import Path

#: Holds ``configs``, ``tools`` and ``model-index.yml``; the name is that by which mim and mmengine find them.
MIM = Path(__file__).resolve().parent / '.mim'
