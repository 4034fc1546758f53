"""How the public suite's own scripts start its engines: prompt tokens of a step, and when they take up requests.

``scripts.csv`` holds settings that SemiAnalysisAI/InferenceX (Apache-2.0) passes in ``benchmarks/*.sh`` (commits 432945d,
8eec0d4, 73ef922): flags of its runs, not one measured time. The first line that fits a row holds; a blank field fits any row.

=============  =====================================================================================================
chunk_tokens   ``--chunked-prefill-size`` (SGLang), ``--max_num_tokens`` (TensorRT-LLM), ``max-num-batched-tokens`` (vLLM)
poll_steps     ``--scheduler-recv-interval``: steps between two looks for new requests
wait_steps     ``batch_wait_timeout_iters``: steps for which prompts wait for more of them at most
wait_fill      ``batch_wait_max_tokens_ratio``: share of a step's tokens at which they wait no longer
slots          ``--max-running-requests``: sequences of the worker that decode together at most, 0 unknown
=============  =====================================================================================================
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

_PATH = Path(__file__).with_name("scripts.csv")
#: Prompt tokens of a step where no script says: max_num_batched_tokens of the suite's vLLM runs, SGLang's and TensorRT-LLM's
#: default.
CHUNK_TOKENS = 8192.0


@dataclass(frozen=True, slots=True)
class Script:
    """One start: see the table above."""

    chunk_tokens: float = CHUNK_TOKENS
    poll_steps: float = 1.0
    wait_steps: float = 0.0
    wait_fill: float = 1.0
    slots: float = 0.0


#: A start of which nothing is known.
PLAIN = Script()


def script_of(
    backend: str, system: str, model: str, precision: str, isl: int, osl: int, tp: int, dp: int, concurrency: int
) -> Script | None:
    """The settings of an aggregated run of the suite; None where its scripts are not known."""
    wanted = {"backend": backend, "system": system, "precision": precision, "isl": str(isl), "osl": str(osl), "dp": str(dp)}
    for r in _lines():
        plain = all(r[name] in ("", value) for name, value in wanted.items())
        if plain and model.startswith(r["model"]) and concurrency >= int(r["concurrency_from"]) and tp <= int(r["tp_to"] or tp):
            return Script(*(float(r[f.name] or 0.0) for f in fields(Script)))
    return None


@cache
def _lines() -> tuple[dict[str, str], ...]:
    with _PATH.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))
