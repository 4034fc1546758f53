"""Logical experts to physical slots: which replica of a popular expert serves a token, chosen on the sender before dispatch.

A slot is an expert's place on a rank; an expert with replicas has several. Three ways to choose: ``static`` (a rank always
goes to the same replica, so that two ranks' tokens may still meet), ``round-robin`` (token n of the whole layer takes replica
n mod replicas) and ``least-loaded`` (the replica this rank has sent the fewest rows to so far, which in token order is the
token's place among the expert's tokens, mod replicas). All need no exchange and give the same answer on every run.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .layout import Experts, layout_experts

CHOICES = ("static", "round-robin", "least-loaded")


@dataclass(frozen=True)
class Replicas:
    """``slots``: [slots] int32, slot numbers sorted by expert; expert e has ``count[e]`` of them from ``first[e]`` (int32)."""

    slots: torch.Tensor
    first: torch.Tensor
    count: torch.Tensor
    choice: str = "round-robin"

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise ValueError(f"choice {self.choice!r}: one of {', '.join(CHOICES)}")

    @classmethod
    def of(cls, expert_of: torch.Tensor, experts: int, choice: str = "round-robin") -> Replicas:
        """``expert_of``: [slots] the logical expert each slot holds. Raises ValueError if an expert has no slot."""
        count = torch.bincount(expert_of.long(), minlength=experts)
        if count.numel() != experts or int(count.min()) < 1:
            raise ValueError(f"{experts} experts need a slot each, and no slot holds another")
        order = torch.sort(expert_of, stable=True).indices
        return cls(order.int(), (count.cumsum(0) - count).int(), count.int(), choice)


@triton.jit(do_not_specialize=["me", "first_token"])
def replicas_kernel(
    topk,
    place,
    slots,
    first,
    count,
    out,
    entries,
    me,
    first_token,
    K: tl.constexpr,
    CHOICE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.load(topk + at, mask=at < entries, other=-1)
    used = expert >= 0
    n = tl.load(count + expert, mask=used, other=1)
    begin = tl.load(first + expert, mask=used, other=0)
    if CHOICE == 0:
        turn = (tl.zeros([BLOCK], tl.int32) + me) % n
    elif CHOICE == 1:
        turn = (first_token + at // K) % n
    else:
        turn = tl.load(place + at, mask=used, other=0) % n
    slot = tl.load(slots + begin + turn, mask=used, other=-1)
    tl.store(out + at, slot.to(tl.int64), mask=at < entries)


def choose_replicas(
    topk: torch.Tensor, replicas: Replicas, rank: int, first_token: int, out: torch.Tensor, logical: Experts | None = None
) -> torch.Tensor:
    """``topk``: [tokens, top_k] int64 logical experts (-1: unused) -> ``out``, the same of physical slots.

    ``first_token``: number in the whole layer of this rank's first token; ``logical``: tables for least-loaded, made if absent.
    """
    top_k = topk.shape[1]
    place = topk
    if replicas.choice == "least-loaded":
        place = layout_experts(topk, replicas.count.numel(), logical).place
    if topk.numel():
        replicas_kernel[(-(-topk.numel() // 1024),)](
            topk,
            place,
            replicas.slots,
            replicas.first,
            replicas.count,
            out,
            topk.numel(),
            rank,
            first_token,
            K=top_k,
            CHOICE=CHOICES.index(replicas.choice),
            BLOCK=1024,
        )
    return out


def choose_replicas_reference(topk: torch.Tensor, replicas: Replicas, rank: int, first_token: int) -> torch.Tensor:
    """As ``choose_replicas``; least-loaded by counting, token by token."""
    out = torch.full_like(topk, -1)
    sent = torch.zeros(replicas.slots.numel(), dtype=torch.long)
    for t in range(topk.shape[0]):
        for k in range(topk.shape[1]):
            e = int(topk[t, k])
            if e < 0:
                continue
            first, n = int(replicas.first[e]), int(replicas.count[e])
            mine = sent[first : first + n]
            turn = {"static": rank % n, "round-robin": (first_token + t) % n}.get(replicas.choice, int(mine.argmin()))
            sent[first + turn] += 1
            out[t, k] = int(replicas.slots[first + turn])
    return out


def imbalance(topks: list[torch.Tensor], ranks: int, slots: int) -> float:
    """Expert rows of the busiest rank over the mean, of all ranks' ``topks`` of slots (or experts) in contiguous blocks."""
    chosen = torch.cat([t.flatten() for t in topks])
    rows = torch.bincount(chosen[chosen >= 0].long() // (slots // ranks), minlength=ranks)
    return float(rows.max() / rows.double().mean())
