"""Every measured deployment replayed request by request, its errors beside the closed form's. Run: make replay"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from epicycle.validate.serving.replay import replay
from epicycle.validate.serving.rows import read_serving
from epicycle.validate.serving.steady import predict_serving


def main(table: str) -> int:
    rows = read_serving(Path(table), Counter())
    closed = predict_serving(rows)
    played = replay(rows, progress=lambda done, whole: print(f"\r{done}/{whole}", end="", file=sys.stderr))
    good = np.isfinite(played.tpot_s) & np.isfinite(closed.tpot_s)
    measured = {"tpot": np.array([row.tpot_s for row in rows]), "ttft": np.array([row.ttft_s for row in rows])}
    print(f"\n{good.sum()} of {len(rows)} deployments, errors in per cent (median, mean): closed form | requests one by one")
    kinds = np.array([f"{row.backend} {'aggregated' if row.prefill is None else 'disaggregated'}" for row in rows])
    met = True
    for name in ("all", *sorted(set(kinds))):
        some = good & ((kinds == name) | (name == "all"))
        parts = []
        for key in ("tpot", "ttft"):
            errors = [100.0 * np.abs(getattr(found, f"{key}_s") / measured[key] - 1.0)[some] for found in (closed, played)]
            parts.append(f"{key} " + " | ".join(f"{np.median(e):5.1f} {e.mean():6.1f}" for e in errors))
            met = met and (name != "all" or np.median(errors[1]) <= np.median(errors[0]) + 0.5)
        print(f"{name:22s} n {some.sum():4d}  {'  '.join(parts)}")
    print(
        f"{'met   ' if met else 'MISSED'} requests one by one no worse than the closed form (within half a point of the median)"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
