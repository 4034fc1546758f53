"""What a row on the wire is made of, and where in it each part lies.

Rows are arrays of 4-byte words: payload first, and every slot starts a cache line. On one node (as
DeepEP's intranode kernels) a dispatched row carries 4 bytes of token number and 8 bytes of index per top-k entry; on the
two-hop path 8 bytes of origin (token, rank), 4 bytes of index, and padding to 16 bytes that travels with it. The index names
the expert and the token's place among its source's tokens for that expert, so that receivers need no scan.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

LINE = 128  # bytes of a cache line
MAX_TWO_HOP_EXPERTS = 4096
MAX_TWO_HOP_TOKENS = 1 << 19


@dataclass(frozen=True)
class RowFormat:
    """A dispatched row of ``payload_words`` words (bf16 or float8 values), ``scales`` fp32 scales and ``top_k`` entries."""

    payload_words: int
    scales: int
    top_k: int
    two_hop: bool = False

    @classmethod
    def of(cls, hidden: int, top_k: int, fp8: bool, two_hop: bool = False) -> RowFormat:
        return cls(hidden // 4, hidden // 128, top_k, two_hop) if fp8 else cls(hidden // 2, 0, top_k, two_hop)

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part that travels."""
        origin, index = (8, 4) if self.two_hop else (4, 8)
        parts = {
            "payload": 4 * self.payload_words,
            "scales": 4 * self.scales,
            "origin": origin,
            "index": index * self.top_k,
            "weights": 4 * self.top_k,
        }
        return {**parts, "padding": -sum(parts.values()) % 16 if self.two_hop else 0}

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def stride(self) -> int:
        """Words from one slot to the next: whole lines, so that no store of a row splits a sector with its neighbour."""
        return -(-self.bytes // LINE) * LINE // 4

    def constants(self) -> dict[str, int]:
        """The format as the kernels' constexpr arguments; TRAVELS, TAIL: words of a row, and of those after its payload."""
        origin = self.payload_words + self.scales
        index = origin + (2 if self.two_hop else 1)
        return {
            "WORDS": self.payload_words,
            "SCALES": self.scales,
            "SP": triton.next_power_of_2(max(self.scales, 1)),
            "K": self.top_k,
            "KP": min(8, triton.next_power_of_2(self.top_k)),
            "STRIDE": self.stride,
            "TRAVELS": self.bytes // 4,
            "TAIL": self.bytes // 4 - self.payload_words,
            "TP": triton.next_power_of_2(self.bytes // 4 - self.payload_words),
            "ORIGIN_AT": origin,
            "INDEX_AT": index,
            "WEIGHT_AT": index + self.top_k * (1 if self.two_hop else 2),
            "TWO_HOP": self.two_hop,
            "BLOCK": min(4096, triton.next_power_of_2(self.payload_words)),
        }


@dataclass(frozen=True)
class SumFormat:
    """A combined row: ``hidden`` bf16 sums, the token's origin, and the weights that went into it (0 where elsewhere)."""

    hidden: int
    top_k: int
    two_hop: bool = False

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part that travels."""
        parts = {"payload": 2 * self.hidden, "origin": 8 if self.two_hop else 4, "weights": 4 * self.top_k}
        return {**parts, "padding": -sum(parts.values()) % 16 if self.two_hop else 0}

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def stride(self) -> int:
        """Words from one slot to the next: whole lines."""
        return -(-self.bytes // LINE) * LINE // 4

    def constants(self) -> dict[str, int]:
        """The format as the kernels' constexpr arguments; TAIL: words after the payload that travel."""
        tail = (self.bytes - 2 * self.hidden) // 4
        return {
            "HIDDEN": self.hidden,
            "K": self.top_k,
            "SUM_STRIDE": self.stride,
            "TAIL": tail,
            "TP": triton.next_power_of_2(tail),
            "SHARES_AT": 2 if self.two_hop else 1,
            "BLOCK": min(8192, triton.next_power_of_2(self.hidden)),
        }

    def values(self, rows: torch.Tensor) -> torch.Tensor:
        """[..., hidden] bf16 view of [..., stride] int32 ``rows``."""
        return rows.view(torch.bfloat16)[..., : self.hidden]

    def weights(self, rows: torch.Tensor) -> torch.Tensor:
        """[..., top_k] float32 view of [..., stride] int32 ``rows``."""
        first = self.hidden // 2 + (2 if self.two_hop else 1)
        return rows.view(torch.float32)[..., first : first + self.top_k]


@triton.jit
def read_index(entry, mask, TWO_HOP: tl.constexpr):
    """(expert or -1, place) of the top-k entries at ``entry``; -1 where masked."""
    if TWO_HOP:
        word = tl.load(entry, mask=mask, other=-1)
        expert = tl.where(word >= 0, word & 0xFFF, -1)
        place = word >> 12
    else:
        expert = tl.load(entry, mask=mask, other=-1)
        place = tl.load(entry + 1, mask=mask, other=0)
    return expert, place
