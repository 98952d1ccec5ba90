"""A headless Chromium that a test drives as a user would, over the pipe of its DevTools protocol: no library needed.

https://chromedevtools.github.io/devtools-protocol
"""
import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

BINARY = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')


class Chromium:
    """One tab; a context manager, which ends the browser.

    Args:
        profile (Path): An empty folder for what the browser keeps.
        size (tuple[int, int]): Width and height of the tab in pixels. Defaults to (1280, 900).
    """

    def __init__(self, profile: Path, size: tuple[int, int] = (1280, 900)) -> None:
        ends = [*os.pipe(), *os.pipe()]
        commands, self._commands, self._answers, answers = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
                                                            for end in ends)
        for end in ends:
            os.close(end)
        # the browser reads commands from 3 and answers on 4; root and containers have no sandbox
        self.process = subprocess.Popen(
            ['bash', '-c', f'exec "$@" 3<&{commands} 4>&{answers}', 'bash', BINARY, '--headless', '--no-sandbox',
             '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--no-proxy-server',
             f'--window-size={size[0]},{size[1]}', f'--user-data-dir={profile}', '--remote-debugging-pipe',
             'about:blank'],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        self._text, self._count, self._session = b'', 0, {}
        target = next(target for target in self('Target.getTargets')['targetInfos'] if target['type'] == 'page')
        session = self('Target.attachToTarget', targetId=target['targetId'], flatten=True)['sessionId']
        self._session = dict(sessionId=session)

    def __enter__(self) -> 'Chromium':
        return self

    def __exit__(self, *_: object) -> None:
        self._session = {}
        self('Browser.close')
        self.process.wait(20)
        os.close(self._commands)
        os.close(self._answers)

    def __call__(self, method: str, **parameters: object) -> dict:
        """One command of the protocol and its result; events in between are passed over."""
        self._count += 1
        message = dict(id=self._count, method=method, params=parameters, **self._session)
        os.write(self._commands, json.dumps(message).encode() + b'\0')
        while True:
            answer = json.loads(self._next())
            if answer.get('id') == self._count:
                assert 'error' not in answer, f'{method}: {answer["error"]}'
                return answer['result']

    def _next(self) -> bytes:
        while b'\0' not in self._text:
            read = os.read(self._answers, 1 << 16)
            assert read, 'the browser has ended'
            self._text += read
        message, _, self._text = self._text.partition(b'\0')
        return message

    def open(self, url: str) -> None:
        self('Page.navigate', url=url)

    def js(self, expression: str) -> object:
        """The value of an expression in the page."""
        answer = self('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in answer, answer['exceptionDetails']
        return answer['result'].get('value')

    def wait(self, expression: str, seconds: float = 60) -> object:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.js(expression)):
            assert time.monotonic() < end, f'not true: {expression}\n{self.js("document.body.innerText")}'
            time.sleep(0.1)
        return value

    def _middle(self, selector: str) -> dict[str, float]:
        return self.js(f'''(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center"}});
            const box = element.getBoundingClientRect();
            return {{x: box.x + box.width / 2, y: box.y + box.height / 2}};
        }})()''')

    def drop(self, file: Path, selector: str) -> None:
        """Drag a file onto an element and let it go."""
        place, data = self._middle(selector), dict(items=[], files=[str(file)], dragOperationsMask=1)
        for kind in ('dragEnter', 'dragOver', 'drop'):
            self('Input.dispatchDragEvent', type=kind, data=data, **place)

    def click(self, selector: str) -> None:
        place = self._middle(selector)
        for kind in ('mousePressed', 'mouseReleased'):
            self('Input.dispatchMouseEvent', type=kind, button='left', clickCount=1, **place)

    def key(self, name: str, code: int) -> None:
        """Press a key, e.g. ``'Home', 36``, in what has the focus."""
        for kind in ('rawKeyDown', 'keyUp'):
            self('Input.dispatchKeyEvent', type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self('Page.captureScreenshot', format='png')['data']))
