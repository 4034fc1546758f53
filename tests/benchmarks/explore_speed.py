"""How fast `epicycle explore` answers: `make bench-explore`. Every slider moved in a real browser, medians of five moves.

Milliseconds of the server's CPU for an answer, and from the key that moves a slider to the new numbers on the page and to the
front drawn anew (`make browser` where there is none). The last column says whether the numbers came within the target.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from epicycle.scenarios.explore.dash_page import ADDRESS, app_of
from epicycle.scenarios.explore.explorer import Explorer

NAMES = ("serve-deepseek-v3-h200", "serve-deepseek-v3-fat-tree")
TARGET_MS, RUNS = 200.0, 5
#: Between the key and what it changes; the page's own clock.
WATCH = """(() => {
  window.numbers = window.pictures = null;
  document.addEventListener('keydown', () => { window.began = performance.now(); }, {capture: true, once: true});
  const text = document.getElementById('command');
  const seen = new MutationObserver(() => { seen.disconnect(); window.numbers = performance.now() - window.began; });
  seen.observe(text, {childList: true, characterData: true, subtree: true});
  const front = document.querySelector('#front .js-plotly-plot');
  const drawn = () => { front.removeListener('plotly_afterplot', drawn); window.pictures = performance.now() - window.began; };
  front.on('plotly_afterplot', drawn);
})()"""


def browser_of(folder: Path) -> Any:
    """The browser that the tests use; None where there is none."""
    path = Path(__file__).parents[1] / "scenarios" / "conftest.py"
    spec = importlib.util.spec_from_file_location("browser_for_benchmarks", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Browser(folder) if module.CHROMIUM else None


def server_ms(app: Any, explorer: Explorer, place: int) -> float:
    """Milliseconds of CPU of one answer of the server, its JSON included."""
    client = app.server.test_client()
    asked = next(d for d in client.get("/_dash-dependencies").get_json() if "sentence.children" in d["output"])
    values = [knob.values.index(knob.now) if knob.slides else knob.now for knob in explorer.knobs]
    times = []
    for run in range(RUNS + 1):
        moved = list(values)
        moved[place] = (values[place] + run + 1) % len(explorer.knobs[place].values)
        inputs = [{"id": f"knob-{i}", "property": "value", "value": value} for i, value in enumerate(moved)]
        outputs = [
            dict(zip(("id", "property"), o.rsplit(".", 1), strict=True)) for o in asked["output"].strip(".").split("...")
        ]
        body = {"output": asked["output"], "outputs": outputs, "inputs": inputs, "changedPropIds": [f"knob-{place}.value"]}
        explorer.forget()
        began = time.process_time()
        done = client.post("/_dash-update-component", data=json.dumps(body), content_type="application/json")
        times.append((time.process_time() - began) * 1e3)
        assert done.status_code == 200, done.text
    return statistics.median(times[1:])


def browser_ms(browser: Any, explorer: Explorer, place: int, steps: int) -> tuple[float, float]:
    """Milliseconds to the numbers and to the front, in the browser; the slider goes to and fro among ``steps`` places."""
    browser.eval(f"document.querySelector('#knob-{place} [role=slider], [id=\"knob-{place}\"] [role=slider]').focus()")
    numbers, pictures = [], []
    for run in range(RUNS + 1):
        key, code = ("ArrowRight", 39) if (run % 2 == 0) == (steps > 1) else ("ArrowLeft", 37)
        explorer.forget()
        browser.eval(WATCH)
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        browser.until("window.numbers !== null && window.pictures !== null")
        numbers.append(browser.eval("window.numbers"))
        pictures.append(browser.eval("window.pictures"))
    return statistics.median(numbers[1:]), statistics.median(pictures[1:])


def main() -> None:
    slow = 0
    with tempfile.TemporaryDirectory() as folder:
        browser = browser_of(Path(folder))
        for name in NAMES:
            explorer = Explorer(name, [])
            app = app_of(explorer, "/")
            server = make_server(ADDRESS, 0, app.server, threaded=True)
            port = server.server_port
            threading.Thread(target=server.serve_forever, daemon=True).start()
            if browser is not None:
                browser.call("Page.navigate", url=f"http://{ADDRESS}:{port}/")
                browser.until("!!document.getElementById('n-tpot') && !!document.querySelector('#front .main-svg')")
                time.sleep(1.0)
            print(f"{name}, medians of {RUNS}, ms")
            print(f"{'slider':44s} {'CPU':>7s} {'numbers':>8s} {'front':>7s}  target {TARGET_MS:g}")
            for place, knob in enumerate(explorer.knobs):
                if not knob.slides:
                    continue
                at_server = server_ms(app, explorer, place)
                last = knob.values.index(knob.now) == len(knob.values) - 1
                seen = browser_ms(browser, explorer, place, 1 if last else 2) if browser is not None else None
                numbers, front = seen if seen else (at_server, float("nan"))
                slow += numbers > TARGET_MS
                verdict = "met" if numbers <= TARGET_MS else "missed"
                print(f"{knob.words:44s} {at_server:7.0f} {numbers:8.0f} {front:7.0f}  {verdict}", flush=True)
            server.shutdown()
        if browser is not None:
            browser.close()
    print(f"{slow} sliders answer later than {TARGET_MS:g} ms" if slow else f"every slider answers within {TARGET_MS:g} ms")


if __name__ == "__main__":
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    main()
