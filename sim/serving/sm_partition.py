"""One GPU's SMs shared by prompts and decoding: what a partition gives each, what waves waste, what contention takes.

Source of the arrangement: Bullet (arXiv 2504.19516), which masks SMs so that prompts run on some and decoding on the rest.
Prompts are bound by compute: their time grows as their SMs shrink, in whole waves of tiles. Decoding is bound by memory: it
needs only as many SMs as draw the HBM's bandwidth. While both run, each is ``contention`` times slower (L2, HBM and power).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Tiles:
    """A GEMM of [rows, columns] cut into tiles of ``rows_each`` x ``columns_each``, one on an SM at a time."""

    rows: int
    columns: int
    rows_each: int = 128
    columns_each: int = 256

    @property
    def count(self) -> int:
        return ceil(self.rows / self.rows_each) * ceil(self.columns / self.columns_each)

    def idle_share(self, sms: int) -> float:
        """Of the time of all SMs, what the last wave leaves idle: ``(N - tail) / (N w)``."""
        waves = ceil(self.count / sms)
        return 1.0 - self.count / (waves * sms)


def idle_of_all(gemms: Sequence[Tiles], inner: Sequence[int], sms: int) -> float:
    """The same of several GEMMs, each as long as its waves are deep (``inner``: its reduced length)."""
    waves = [ceil(g.count / sms) * k for g, k in zip(gemms, inner, strict=True)]
    work = sum(g.count * k for g, k in zip(gemms, inner, strict=True))
    return 1.0 - work / (sms * sum(waves))


@dataclass(frozen=True, slots=True)
class Partition:
    """``prompt_sms`` of ``sms`` run prompts. ``saturating``: the share of all SMs that draws the HBM's whole bandwidth."""

    prompt_sms: int
    sms: int
    saturating: float
    contention: float

    def prompt_seconds(self, whole_gpu_s: float, gemms: Sequence[Tiles], inner: Sequence[int]) -> float:
        """Prompts that take ``whole_gpu_s`` on all SMs, beside decoding."""
        quantised = (1.0 - idle_of_all(gemms, inner, self.sms)) / (1.0 - idle_of_all(gemms, inner, self.prompt_sms))
        return whole_gpu_s * self.sms / self.prompt_sms * quantised * self.contention

    def decode_seconds(self, whole_gpu_s: float) -> float:
        """A decode step that takes ``whole_gpu_s`` on all SMs, beside prompts."""
        rest = (self.sms - self.prompt_sms) / self.sms
        return whole_gpu_s * max(1.0, self.saturating / rest) * self.contention


def best_partition(
    sms: int,
    saturating: float,
    contention: float,
    decode_s: float,
    prompt_s: float,
    gemms: Sequence[Tiles],
    inner: Sequence[int],
    step: int = 2,
) -> tuple[Partition, float]:
    """The partition in which a decode step and the prompts that come with it both end soonest, and when.

    ``step``: SMs come in pairs (a TPC), which is what can be masked.
    """
    found = []
    for prompts in range(step, sms, step):
        one = Partition(prompts, sms, saturating, contention)
        found.append((max(one.decode_seconds(decode_s), one.prompt_seconds(prompt_s, gemms, inner)), prompts, one))
    seconds, _, best = min(found, key=lambda f: f[:2])
    return best, seconds
