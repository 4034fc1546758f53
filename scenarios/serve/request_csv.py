"""Every request as a line of CSV, written as it ends: nothing is kept, however many there are."""

from __future__ import annotations

import csv
from typing import Any, TextIO

import numpy as np

from ...sim.serving.requests.loop import layout as at

COLUMNS = (
    "id", "arrival_s", "first_token_s", "end_s", "input_tokens", "output_tokens", "status", "ttft_s", "tpot_s", "queue_s",
    "prefill_s", "transfer_s", "lost_s", "cached_tokens", "loaded_tokens", "preempted", "tries", "wasted_tokens", "worker",
    "session", "turn", "priority",
)  # fmt: skip
STATUS = {int(at.SERVED): "served", int(at.FAILED): "failed", int(at.REJECTED): "refused", int(at.EXPIRED): "gave up"}


class RequestCsv:
    """Takes `layout.FINISHED` records and writes them to ``file`` in the order they ended."""

    def __init__(self, file: TextIO) -> None:
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def __call__(self, records: Any) -> None:
        for r in records:
            served = r["status"] == at.SERVED
            first, end = r["first"] * 1e-12, r["end"] * 1e-12
            tpot = (end - first) / (r["output"] - 1) if served and r["output"] > 1 else None
            self._rows.writerow([
                r["id"], _s(r["arrival"]), _s(r["first"]) if r["first"] >= 0 else "", _s(r["end"]), r["input"], r["output"],
                STATUS[int(r["status"])], f"{first - r['arrival'] * 1e-12:.9f}" if r["first"] >= 0 else "",
                "" if tpot is None else f"{tpot:.9f}", _s(r["waited"]), _s(r["prefilled"]), _s(r["moved"]), _s(r["lost"]),
                r["hit"], r["loaded"], r["preempted"], r["tries"], r["wasted"], r["worker"],
                r["session"] if r["session"] >= 0 else "", r["turn"], r["priority"],
            ])  # fmt: skip


def _s(picoseconds: np.int64) -> str:
    return f"{int(picoseconds) // 10**12}.{int(picoseconds) % 10**12 // 1000:09d}"
