"""tools/analysis_tools/cost_growth.py: lines, picture, and what is drawn."""
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/analysis_tools'))
import cost_growth  # noqa: E402
from cost_plot import LIGHT_KIND, OURS, TWIN, growth  # noqa: E402


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, 'argv', ['cost_growth.py', *map(str, arguments)])
    cost_growth.main()


def test_growth_is_relative_to_the_base():
    """Of seconds the median of the rounds' own ratios: a machine that became slower halfway changes nothing."""
    records = [dict(net='DeiT-T', kind=TWIN, scale=1, parameters=10, seconds=[1., 1., 9.]),
               dict(net='DeiT-T', kind=TWIN, scale=2, parameters=20, seconds=[2., 2., 18.]),
               dict(net='DeiT-S', kind=TWIN, scale=1, parameters=99, seconds=[5., 5., 5.]),
               dict(net='DeiT-T', kind=OURS, scale=2, parameters=12, seconds=[2.2, 2.1, 18.]),
               dict(net='DeiT-T', kind=LIGHT_KIND, scale=2, parameters=12)]
    assert growth(records, 'DeiT-T', TWIN, 'seconds') == {1: 1, 2: 2}
    assert growth(records, 'DeiT-T', OURS, 'seconds') == {2: 2.1}
    assert growth(records, 'DeiT-T', OURS, 'parameters') == {2: 1.2}
    assert growth(records, 'DeiT-T', LIGHT_KIND, 'seconds') == {}


@pytest.mark.slow
def test_lines_and_picture(monkeypatch, tmp_path):
    """What docs/results shows, of the smallest net in its own command."""
    monkeypatch.setattr(cost_growth, 'SCALES', (1, 2))
    run(monkeypatch, tmp_path / 'cost.jsonl', '--nets', 'DeiT-T', '--rounds', 2)
    records = [json.loads(line) for line in (tmp_path / 'cost.jsonl').read_text().splitlines()]
    assert [(r['kind'], r['scale']) for r in records] == [(kind, scale) for kind in (TWIN, OURS, LIGHT_KIND)
                                                          for scale in (1, 2)]
    assert all(len(r['seconds']) == 2 for r in records[:4])
    kept = {kind: growth(records, 'DeiT-T', kind, 'kept_bytes') for kind in (TWIN, OURS, LIGHT_KIND)}
    assert kept[TWIN][2] == pytest.approx(2, abs=0.1)
    assert kept[LIGHT_KIND][2] < 0.8 * kept[OURS][2]
    assert growth(records, 'DeiT-T', OURS, 'parameters')[2] < 1.2 < growth(records, 'DeiT-T', TWIN, 'parameters')[2]
    first = (tmp_path / 'cost.png').read_bytes()
    (tmp_path / 'cost.png').unlink()
    run(monkeypatch, tmp_path / 'cost.jsonl', '--redraw')
    assert (tmp_path / 'cost.png').read_bytes() == first
    assert min(Image.open(tmp_path / 'cost.png').size) > 300


def test_lines_that_are_not_there(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path / 'none.jsonl', '--redraw')
    assert capsys.readouterr().err.startswith('error: --redraw needs lines')


def test_the_published_picture_is_of_the_published_lines():
    """All nets and kinds over four scales, with at least five rounds; what growing costs is as the page says."""
    records = [json.loads(line) for line in (ROOT / 'docs/results/cost.jsonl').read_text().splitlines()]
    assert len(records) == len(cost_growth.NETS) * 3 * 4
    assert min(len(r['seconds']) for r in records if r['kind'] != LIGHT_KIND) >= 5
    assert (ROOT / 'docs/results/cost.png').exists()
