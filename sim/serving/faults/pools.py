"""The workers that failures can hit, as a schedule of failures needs to know them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """One worker: its place among all, its pool ("decode" or "prefill") and number there, and its GPUs: ``ranks`` attention
    groups of ``gpus_per_rank``. ``table``: of its steps when nothing is wrong; ``port_bytes_per_s``: of one group.
    """

    worker: int
    pool: str
    number: int
    ranks: int
    gpus_per_rank: int
    gpus_per_node: int
    table: int
    port_bytes_per_s: float

    @property
    def gpus(self) -> int:
        return self.ranks * self.gpus_per_rank
