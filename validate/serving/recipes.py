"""What the public suite's own configuration says of deployments whose columns leave it out: workers, their widths, speculation.

``recipes.csv`` holds arrangements that SemiAnalysisAI/InferenceX (Apache-2.0) lists for DeepSeek-R1 in
``.github/configs/nvidia-master.yaml`` (commits 0004cf5 and 48f302c; 525079a of InferenceMAX/InferenceMAX for TensorRT-LLM 1.1)
and, for the months before that file, in ``runners/launch_gb200-nv.sh`` (versions `UNSTATED`, 0.5.1-rc0): inputs of its runs,
not one measured time. Where a list counts the clients of one decode worker (TensorRT-LLM on H200, and tensor-parallel decoders
in the first scripts), the lines here hold all of them: the rows that state their workers have as many times more (9 workers and
16 listed: 144 clients). A recipe belongs to a row by backend, system, precision, lengths, concurrency and whatever widths the
row states, which may be the GPUs of all workers together; blank fields fit any row.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PATH = Path(__file__).with_name("recipes.csv")
#: Version of lines from the suite's first scripts (October 2025), and of the rows that state none.
UNSTATED = "unstated"


@dataclass(frozen=True, slots=True)
class Pool:
    """``count`` workers of ``gpus`` GPUs; ``kind``: TP, TEP (experts whole), DP or DEP (attention data-parallel)."""

    count: int
    kind: str
    gpus: int

    @property
    def data_parallel(self) -> bool:
        return self.kind.startswith("D")

    @property
    def whole_experts(self) -> bool:
        return "E" in self.kind


@dataclass(frozen=True, slots=True)
class Recipe:
    """One listed arrangement. ``prefill`` is None for an aggregated one; ``slots``: sequences of a rank at most, 0 unknown.
    ``otherwise``: drafts that a run of the same settings is listed with as well."""

    backend: str
    version: str
    system: str
    precision: str
    lengths: tuple[str, str]
    concurrencies: frozenset[int]
    prefill: Pool | None
    decode: Pool
    drafts: int
    slots: int
    otherwise: int = 0

    @property
    def gpus(self) -> int:
        """Of all its workers together."""
        return sum(pool.count * pool.gpus for pool in (self.prefill, self.decode) if pool is not None)


def recipes_for(backend: str, version: str, system: str, precision: str, isl: int, osl: int, concurrency: int) -> list[Recipe]:
    """Recipes that may stand behind a row, in the list's order; of the row's version only, if there are any of that.

    A row without a version is of the suite's first months, whose scripts named none: their lines stand under `UNSTATED`.
    """
    version = version or UNSTATED
    lengths = (str(isl), str(osl))
    mine = [
        r
        for r in _recipes().get((backend, system, precision), ())
        if concurrency in r.concurrencies and all(mine in ("", its) for mine, its in zip(r.lengths, lengths, strict=True))
    ]
    own = [r for r in mine if r.version in ("", version)]
    return own if version == UNSTATED else own or mine


@cache
def _recipes() -> dict[tuple[str, str, str], list[Recipe]]:
    found: dict[tuple[str, str, str], list[Recipe]] = {}
    with _PATH.open(encoding="utf-8", newline="") as file:
        for r in csv.DictReader(file):
            recipe = Recipe(
                r["backend"], r["version"], r["system"], r["precision"], (r["isl"], r["osl"]), _counts(r["concurrency"]),
                _pool(r["prefill_workers"], r["prefill"]), _pool(r["decode_workers"], r["decode"]) or Pool(1, "TP", 1),
                int(r["drafts"]), int(r["slots"] or 0),
            )  # fmt: skip
            found.setdefault((recipe.backend, recipe.system, recipe.precision), []).append(recipe)
    return found


def _pool(count: str, text: str) -> Pool | None:
    if not text:
        return None
    kind, gpus = re.fullmatch(r"([A-Z]+)(\d+)", text).groups()  # type: ignore[union-attr]
    return Pool(int(count), kind, int(gpus))


def _counts(text: str) -> frozenset[int]:
    """``10 15 25`` as listed, ``4-64`` the powers of two from the first to the last."""
    if "-" not in text:
        return frozenset(int(part) for part in text.split())
    low, high = (int(part) for part in text.split("-"))
    return frozenset(low << i for i in range(20) if low << i <= high)
