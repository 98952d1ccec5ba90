"""The site, made by ``make docs``: the pages of this folder, README.md as the first, and the public API."""
import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from mmscalenet import __version__  # noqa: E402

project, author, release = 'mmscalenet', 'the mmscalenet developers', __version__
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
nb_execution_mode = 'off'  # tests/test_docs/test_notebook.py runs it
exclude_patterns = ['README.md']  # the list of pages for who reads them in the repository
html_theme, html_title, html_copy_source = 'furo', f'mmscalenet {release}', False
myst_heading_anchors = 3
napoleon_google_docstring, napoleon_numpy_docstring = True, False
autodoc_default_options = dict(members=True)
autodoc_typehints = 'none'  # docstrings give the types
autodoc_mock_imports: list[str] = []
default_role = 'literal'

LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)')


def target_of(target: str, folder: Path) -> str | None:
    """Where a link of a page in ``folder`` goes on the site; None for a file of the repository that is not on it."""
    if '://' in target or target.startswith('#'):
        return target
    name, hash_mark, anchor = target.partition('#')
    path = Path(os.path.normpath(folder / name))
    if path == ROOT / 'README.md':
        path = DOCS / 'index.md'
    elif path == DOCS / 'README.md' or path == DOCS / 'results':
        path, hash_mark, anchor = DOCS / 'index.md', '', ''
    if not path.is_relative_to(DOCS) or not (path.is_file() or path == DOCS / 'index.md') or path.suffix == '.jsonl':
        return None
    # from a page that stands in ``folder``, or, of README.md, in docs/
    start = folder if folder.is_relative_to(DOCS) else DOCS
    return os.path.relpath(path, start) + hash_mark + anchor


def rewrite(text: str, folder: Path) -> str:
    """Links as they are on the site. What is in the repository alone is named without a link."""

    def change(match: re.Match) -> str:
        mark, words, target = match.groups()
        words = LINK.sub(change, words)  # a picture that is a link
        new = target_of(target, folder)
        return words if new is None else f'{mark}[{words}]({new})'

    parts = re.split(r'(^```.*?^```$|`[^`\n]+`)', text, flags=re.DOTALL | re.MULTILINE)
    # code stays as it is, but a name in code may be the words of a link
    kept = {f'\0{number}\0': part for number, part in enumerate(parts[1::2])}
    joined = ''.join(part for pair in zip(parts[::2], [*kept, ''], strict=True) for part in pair)
    return re.sub('\0\\d+\0', lambda found: kept[found[0]], LINK.sub(change, joined))


def read(app: object, name: str, source: list[str]) -> None:
    """Sphinx's ``source-read``."""
    path = DOCS / f'{name}.md'
    if not path.exists():  # the notebook
        return
    text = source[0]
    if name == 'index':
        text = rewrite((ROOT / 'README.md').read_text(), ROOT) + '\n' + text
    elif not text.lstrip().startswith('#'):  # a table as a tool wrote it
        text = f'# {path.stem.replace("_", " ").capitalize()}\n\n{rewrite(text, path.parent)}'
    else:
        text = rewrite(text, path.parent)
    source[0] = text


def setup(app: object) -> None:
    app.connect('source-read', read)
