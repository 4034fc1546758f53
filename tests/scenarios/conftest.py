"""A real browser for the tests of the pages: Debian's chromium, spoken to over a pipe in the DevTools protocol."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ANSWER_SECONDS = 120.0  # a loaded machine is not a failing test


class Browser:
    """One headless chromium with one tab. ``errors``: everything it complained of since `open`."""

    def __init__(self, folder: Path) -> None:
        down, up = os.pipe(), os.pipe()

        def pipes_are_3_and_4() -> None:
            reader, writer = os.dup(down[0]), os.dup(up[1])
            os.dup2(reader, 3)
            os.dup2(writer, 4)

        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-extensions",
            "--disable-dev-shm-usage",
        ]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "--hide-scrollbars"]
        self.process = subprocess.Popen(
            [str(CHROMIUM), *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=pipes_are_3_and_4,
            pass_fds=(3, 4),
        )
        os.close(down[0])
        os.close(up[1])
        self._down, self._up, self._buffer, self._count = down[1], up[0], b"", 0
        self._session: str | None = None
        self.errors: list[str] = []
        self._loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """The result of one DevTools command."""
        self._count += 1
        message: dict[str, object] = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._down, json.dumps(message).encode() + b"\0")
        while True:
            said = self._read()
            if said.get("id") == self._count:
                assert "error" not in said, (method, said["error"])
                return said["result"]
            self._note(said)

    def open(self, path: Path, width: int = 1300, height: int = 900, dark: bool = False) -> None:
        """Load the file ``path`` in a window of that size and wait until it is there."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.errors.clear()
        self._loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._note(self._read())
        self.errors = [e for e in self.errors if "about:blank" not in e]

    def eval(self, script: str) -> Any:
        """The value of a JavaScript expression (awaited, if a promise)."""
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until ``script`` is true."""
        end = time.monotonic() + ANSWER_SECONDS
        while not self.eval(script):
            assert time.monotonic() < end, f"never true: {script}\n{self.errors}"
            time.sleep(0.05)

    def draw(self, figure: str) -> None:
        """Scroll to a figure and wait until it is drawn."""
        self.eval(f"document.getElementById({figure!r}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        self.until(f"!!document.querySelector('#{figure} .main-svg')")

    def click(self, x: float, y: float) -> None:
        """A real click at a point of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    def click_on(self, selector: str) -> None:
        """A real click on the middle of the first element of ``selector``, scrolled into view."""
        box = self.eval(
            f"(() => {{ const e = document.querySelector({selector!r});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect();"
            " return [b.x + Math.min(b.width / 2, 40), b.y + Math.min(b.height / 2, 12)]; })()"
        )
        self.click(*box)

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return self.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG, every figure drawn."""
        size = self.eval("[innerWidth, document.documentElement.scrollHeight]")
        for name in self.eval("[...document.querySelectorAll('div.plot')].filter(e => e.offsetParent).map(e => e.id)"):
            self.draw(name)
        self.eval("scrollTo(0, 0)")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def print(self, path: Path) -> None:
        """The page as PDF, as paper would show it."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def close(self) -> None:
        for pipe in (self._down, self._up):
            os.close(pipe)
        self.process.terminate()
        self.process.wait(30)

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + ANSWER_SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._up], [], [], max(0.0, end - time.monotonic()))
            assert ready, "chromium does not answer"
            data = os.read(self._up, 1 << 20)
            assert data, "chromium is gone"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _note(self, said: dict[str, Any]) -> None:
        method, params = said.get("method"), said.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(params["entry"]))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs a browser: make browser")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser; the test fails if a page it opened complained of anything."""
    yield chromium
    chromium.eval("0")  # what was said until now has been heard
    assert chromium.errors == []


@pytest.fixture(scope="session")
def made_up() -> ModuleType:
    """The made-up plans, sweeps, comparisons and explanations of made_up.py."""
    spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
