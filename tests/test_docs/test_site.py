"""The site that ``make docs`` builds: every page is in it, and no link goes nowhere."""
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import DOCS

ROOT = DOCS.parent
PAGES = [*sorted(DOCS.rglob('*.md')), ROOT / 'README.md']
LINK = re.compile(r'\]\(([^)\s]+)\)')
CODE = re.compile(r'^```.*?^```$|`[^`\n]*`', re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of its headings, as they are made on the site and in repositories."""
    headings = re.findall(r'^#+ (.+)$', CODE.sub(lambda code: code[0].strip('`'), page.read_text()), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.strip().lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in LINK.findall(CODE.sub('', page.read_text())):
        if '://' in target:
            continue
        name, _, anchor = target.partition('#')
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f'{page.name} links to {target}'
        assert not anchor or anchor in anchors(path), f'{page.name} links to {target}, and no heading has that name'


def test_every_page_is_listed():
    """On the site, and on the page that lists them in the repository."""
    pages = {page.stem for page in DOCS.iterdir() if page.suffix in ('.md', '.ipynb')} - {'index', 'README'}
    tree = set((DOCS / 'index.md').read_text().split())
    listed = {Path(name).stem for name in LINK.findall((DOCS / 'README.md').read_text())} - {'results'}
    assert pages <= tree and pages == listed
    for folder in {page.parent for page in DOCS.rglob('*.md')} - {DOCS}:
        name = str(folder.relative_to(DOCS))
        shown = {entry.rpartition('/')[2] for entry in tree if entry.rpartition('/')[0] == name}
        assert '*' in shown or {page.stem for page in folder.glob('*.md')} <= shown, f'{name} is not in the tree'


@pytest.mark.slow
@pytest.mark.skipif(find_spec('sphinx') is None, reason='make docs installs it')
def test_builds_without_a_warning(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html', DOCS, tmp_path],
                          capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert 'class="highlight' in (tmp_path / 'extend.html').read_text()
    assert 'mmscalenet.expand' in (tmp_path / 'api.html').read_text()
