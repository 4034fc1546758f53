"""The steps of a window of time as a Chrome trace: every worker a process, who waits a counter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .setup import Setup


def write_steps(path: Path, spans: Any, setup: Setup) -> None:
    """Write `layout.SPAN` records to ``path``: open it in ui.perfetto.dev."""
    names, place = [], 0
    for kind in setup.kinds:
        for number in range(kind.count):
            names.append(f"{setup.pools[kind.role]} worker {number}")
            place += 1
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": worker, "tid": 0, "args": {"name": names[worker]}}
        for worker in sorted({int(s["worker"]) for s in spans})
    ]
    for s in spans:
        decoding, prompt, waiting = int(s["decoding"]), int(s["prompt"]), int(s["waiting"])
        start, end, pid = int(s["start"]) / 1e6, int(s["end"]) / 1e6, int(s["worker"])
        what = "decode" if not prompt else "prompts" if not decoding else "mixed"
        args = {"decoding": decoding, "prompt tokens": prompt}
        events.append({"ph": "X", "name": what, "pid": pid, "tid": 0, "ts": start, "dur": end - start, "args": args})
        events.append({"ph": "C", "name": "waiting", "pid": pid, "tid": 0, "ts": start, "args": {"requests": waiting}})
    lines = ",\n".join(json.dumps(e, sort_keys=True, separators=(",", ":")) for e in events)
    path.write_text(f'{{"displayTimeUnit":"ms","traceEvents":[\n{lines}\n]}}\n', encoding="utf-8")
