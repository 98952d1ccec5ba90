"""mmscalenet demo: the page as its server answers, and as a browser shows it.

    python -m pytest -m slow tests/test_visualization/test_demo_page.py
"""
import os
import re
import runpy
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from chromium import BINARY, Chromium
from PIL import Image

from mmscalenet.apis import Inferencer

gradio_client = pytest.importorskip('gradio_client')
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = 'visualization/demo_page.py'
FIRST = {'cls': 'cls/class0/0.png', 'det': 'det/images/0.png', 'seg': 'seg/images/0.png'}


@pytest.fixture
def page(tmp_path):
    """Serves the page of a config and a checkpoint in a process of its own, as a user does; gives its address."""
    processes = []

    def serve(config: Path, checkpoint: Path) -> str:
        log = tmp_path / f'{config.stem}.log'
        command = [sys.executable, '-W', 'ignore', '-m', 'mmscalenet', 'demo', config, checkpoint, '--device', 'cpu']
        with open(log, 'w') as file:
            process = subprocess.Popen(
                list(map(str, command)), cwd=tmp_path, stdout=file, stderr=subprocess.STDOUT,
                env=os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'no_proxy': '127.0.0.1',
                                  'GRADIO_TEMP_DIR': str(tmp_path / 'uploads')})
        processes.append(process)
        while not (found := re.search(r'Open (http://127\.0\.0\.1:\d+/) ', log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        return found[1]

    yield serve
    for process in processes:
        process.terminate()
        process.wait(30)


@pytest.fixture
def few_objects(det_fields) -> dict:
    """Drawing takes longer than finding."""
    det_fields['model']['test_cfg'] = dict(rcnn=dict(max_per_img=4))
    return det_fields


class Expected:
    """What the package's own inferencer gives."""

    def __init__(self, config: Path, checkpoint: Path) -> None:
        self.inferencer = Inferencer(config, checkpoint, 'cpu')
        self.backbone = self.inferencer.model.backbone

    def __call__(self, path: Path, depth: int, score: float) -> tuple[dict, np.ndarray]:
        self.backbone.set_depth(depth)
        image = self.inferencer.load(path)
        sample, = self.inferencer([image])
        return self.inferencer.describe(sample, score), self.inferencer.draw(image, sample, score)


def same(shown: dict | np.ndarray, expected: dict | np.ndarray) -> bool:
    """Scores to the bit; pictures but for the colours of masks, which mmdet varies at random at each drawing."""
    if isinstance(expected, dict):
        return shown == expected
    return shown.shape == expected.shape and np.abs(shown.astype(int) - expected).mean() < 1


def words(result: dict) -> list[str]:
    """What the line under the picture has to say."""
    if 'classes' in result:
        return [f'{entry["name"]} {entry["share"]:.0%}' for entry in result['classes']]
    return [f'{count} × {name}' for name, count in Counter(result.get('names', [])).items()]


@pytest.mark.parametrize('task', ['cls', *(pytest.param(task, marks=pytest.mark.slow) for task in ('det', 'seg'))])
def test_it_shows_what_the_inferencer_gives_at_every_depth(task, request, write_config, weights, page, tmp_path,
                                                           tiny_data):
    fields = 'few_objects' if task == 'det' else f'{task}_fields'
    config = write_config(request.getfixturevalue(fields), task)
    checkpoint = weights(config)
    address = page(config, checkpoint)
    expected = Expected(config, checkpoint)
    depths, score = expected.backbone.runnable_depths(), 0.01
    path = tiny_data / FIRST[task]
    gray, clear = tmp_path / 'gray.png', tmp_path / 'clear.png'
    Image.open(path).convert('L').save(gray)
    Image.open(path).convert('RGBA').save(clear)

    def visitor() -> gradio_client.Client:
        """One for each question: a client may hear the answer before it has noted the question, and then fails
        (https://github.com/gradio-app/gradio/issues/10354)."""
        return gradio_client.Client(address, verbose=False)

    def ask(path: Path, depth: float) -> tuple[dict | np.ndarray, str]:
        shown, line = visitor().predict(gradio_client.handle_file(path), depth, score, api_name='/predict')
        if task == 'cls':
            return {entry['label']: entry['confidence'] for entry in shown['confidences']}, line
        return np.array(Image.open(shown)), line

    def times() -> list[list]:
        return visitor().predict(gradio_client.handle_file(path), api_name='/times')['data']

    seen = []
    for depth, file in [*((depth, path) for depth in depths), (depths[0], gray), (depths[-1], clear)]:
        shown, line = ask(file, depth)
        result, picture = expected(file, depth, score)
        assert f'**Depth {depth}** of {depths[-1]}' in line and re.search(r'\d ms', line)
        assert all(word in line for word in words(result)) and (task == 'cls' or words(result))
        assert same(shown, {entry['name']: entry['score'] for entry in result['top5']} if task == 'cls' else picture)
        seen.append(shown)
    seen = dict(zip(depths, seen, strict=False))
    assert not same(seen[depths[0]], seen[depths[-1]])  # so the depth is in effect

    with ThreadPoolExecutor(4) as pool:  # who asks while the depths are timed gets the depth asked for
        measured = pool.submit(times)
        answers = list(pool.map(lambda depth: ask(path, depth), depths * 3))
    assert all(same(shown, seen[depth]) for depth, (shown, _) in zip(depths * 3, answers, strict=True))
    table = measured.result()
    assert [row[0] for row in table] == depths
    assert all(milliseconds > 0 for *_, milliseconds in table)
    work = [multiply_adds for _, multiply_adds, _ in table]
    assert work == sorted(set(work)) and work[0] > 0

    (tmp_path / 'cut.png').write_bytes(path.read_bytes()[:-300])
    (tmp_path / 'no.png').write_text('no image')
    for name in ('cut.png', 'no.png'):
        with pytest.raises(gradio_client.exceptions.AppError) as error:
            ask(tmp_path / name, depths[0])
        assert str(error.value).startswith(f'image "{name}" cannot be read: ') and str(tmp_path) not in str(error.value)
    assert ask(path, depths[0])[1]  # and it goes on


@pytest.mark.slow
@pytest.mark.skipif(BINARY is None, reason='needs Chromium')
def test_in_a_browser(few_objects, write_config, weights, page, tmp_path, tiny_data):
    """A user drops an image, moves the depth with the keyboard and has the depths timed."""
    config = write_config(few_objects, 'my_detector')
    url = page(config, weights(config))
    with Chromium(tmp_path / 'profile') as browser:
        browser.open(url)
        browser.wait('Boolean(document.querySelector("input[type=range]"))')
        assert browser.js('document.title') == 'my_detector'
        browser.drop(tiny_data / FIRST['det'], '[data-testid=image] button')
        browser.wait('document.body.innerText.includes("Depth 16 of 16")')
        first = browser.wait('document.querySelectorAll("img")[1]?.src')
        browser.js('document.querySelector("input[type=range]").focus()')
        browser.key('Home', 36)
        browser.wait('document.body.innerText.includes("Depth 8 of 16")')
        assert browser.wait('document.querySelectorAll("img")[1]?.src') != first
        browser.click('button.lg')
        numbers = 'document.body.innerText.split("time (ms)").pop().match(/[0-9.]+/g) || []'
        browser.wait(f'({numbers}).length == 15')
        assert browser.js(numbers)[::3] == ['8', '10', '12', '14', '16']
        browser.screenshot(tmp_path / 'page.png')


def test_a_model_that_is_not_grown_has_no_slider(cls_fields, write_config, weights):
    gradio = pytest.importorskip('gradio')
    script = runpy.run_path(str(ROOT / 'tools' / SCRIPT))
    backbone = cls_fields['model']['backbone']
    for name in ('grown', 'base'):
        if name == 'base':
            del backbone['scale']
            backbone['type'] = 'VisionTransformer'
        config = write_config(cls_fields, name)
        model = script['DepthModel'](Inferencer(config, weights(config), 'cpu'))
        blocks = script['build_page'](model, name).blocks.values()
        slider, = (block for block in blocks if isinstance(block, gradio.Slider) and block.label == 'depth')
        text = ' '.join(block.value or '' for block in blocks if isinstance(block, gradio.Markdown))
        assert slider.visible == (name == 'grown')
        assert ('with a VisionTransformer on cpu, which is not grown' in text) == (name == 'base')


def test_a_large_image_is_refused(cls_fields, write_config, weights, tmp_path):
    script = runpy.run_path(str(ROOT / 'tools' / SCRIPT))
    config = write_config(cls_fields)
    Image.new('1', (6000, 5000)).save(tmp_path / 'large.png')
    with pytest.raises(ValueError, match='6000 x 5000 pixels, and this page takes 25 million'):
        script['DepthModel'](Inferencer(config, weights(config), 'cpu')).load(str(tmp_path / 'large.png'))


def test_depths_of_the_slider_and_the_table():
    script = runpy.run_path(str(ROOT / 'tools' / SCRIPT))
    spread, step = sys.modules['depth_model'].spread, script['step']
    assert spread([4, 5], 9) == [4, 5] and spread(list(range(12, 49)), 4) == [12, 24, 36, 48] and spread([3], 9) == [3]
    assert [step(depths) for depths in ([12, 13, 14], [8, 10, 16], [12, 18], [3], [])] == [1, 2, 6, 1, 1]


@pytest.mark.parametrize('arguments, message', [
    (dict(checkpoint='nowhere.pth'), 'nowhere.pth'),
    (dict(config='nowhere.py'), 'nowhere.py'),
    ({'--device': 'abacus'}, '--device "abacus"'),
    ({'--port': 0}, '--port 0'),
    (dict(gradio=None), 'mmscalenet[demo]'),
    (dict(scale=1), 'does not fit the config'),
])
def test_refused(arguments, message, cls_fields, write_config, weights, tool, capfd, monkeypatch):
    config = write_config(cls_fields)
    checkpoint = weights(config)
    if 'gradio' in arguments:
        monkeypatch.setitem(sys.modules, 'gradio', None)  # as Python has it where it is not installed
    if 'scale' in arguments:
        cls_fields['model']['backbone']['scale'] = arguments['scale']
        config = write_config(cls_fields)
    options = [part for pair in arguments.items() if pair[0].startswith('--') for part in pair]
    with pytest.raises(SystemExit) as stop:
        tool(SCRIPT, arguments.get('config', config), arguments.get('checkpoint', checkpoint), *options)
    assert stop.value.code == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith('error: ') and message in error
