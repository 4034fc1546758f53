"""How an exchange was timed, and what that adds to the kernels' own time: the same kernels read 20 % apart.

*Chained*: dispatch and combine follow each other on the stream with no host in between; a period is the median over ranks. What
a CUDA graph replays reads the same: its launches are the graph's. *Fresh entry*: events around one op that starts on an idle,
synchronised device, so that its launch and the ranks' entering apart are inside; the maximum over ranks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Regime:
    """``per_op_s``: seconds that each op reads beyond its kernels; ``over``: which of the ranks' times is kept."""

    name: str
    per_op_s: float
    over: str
    why: str


CHAINED = Regime("chained", 0.0, "median over ranks", "back to back, as a graph replays them: no launch, no entry skew")
FLOOR = Regime("chained, fastest rank", 0.0, "minimum over ranks", "as chained; the rank that waits least")
FRESH = Regime(
    "fresh entry",
    10e-6,
    "maximum over ranks",
    "launch and entry skew inside: DeepEP V2, EP8, 128 tokens, bf16 reads 125 us drained and 105 us chained, two ops",
)
#: What the cast to fp8 before a normal-mode dispatch takes where it is charged to it: a launch, hardly bytes (CollectiveX at
#: 843c625: 27 to 65 us at one token with DeepEP V2, here their geometric mean; 107 with FlashInfer).
CAST_S, FLASHINFER_CAST_S = 42e-6, 107e-6
