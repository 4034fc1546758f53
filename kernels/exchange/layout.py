"""Routing tables to send orders: which rank (or node) gets which token, in which place.

``group`` is a rank (experts_per_group = experts per rank) or a node (experts per node). A token is sent once to a group,
however many of its experts live there. Places count tokens in order, so that results do not depend on timing.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl


@dataclass(frozen=True)
class Groups:
    """``counts``: [groups] int32 tokens sent to each; ``slot``: [tokens, groups] int32 place of the token there, or -1."""

    counts: torch.Tensor
    slot: torch.Tensor


@dataclass(frozen=True)
class Experts:
    """``counts``: [experts] int32; ``place``: [tokens, top_k] int32 place among the tokens of that expert, -1 where unused."""

    counts: torch.Tensor
    place: torch.Tensor


@triton.jit
def groups_kernel(topk, counts, slot, tokens, groups, per_group, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr):
    g = tl.program_id(0)
    k = tl.arange(0, KP)
    total = tl.cast(0, tl.int32)
    for start in range(0, tokens, BLOCK):
        t = start + tl.arange(0, BLOCK)
        mask = (t < tokens)[:, None] & (k < K)[None, :]
        expert = tl.load(topk + t[:, None] * K + k[None, :], mask=mask, other=-1).to(tl.int32)
        inside = (expert >= g * per_group) & (expert < (g + 1) * per_group)
        hit = tl.max(inside.to(tl.int32), axis=1)
        place = total + tl.cumsum(hit, 0) - hit
        tl.store(slot + t * groups + g, tl.where(hit > 0, place, -1), mask=t < tokens)
        total += tl.sum(hit)
    tl.store(counts + g, total)


@triton.jit
def experts_kernel(topk, counts, place, tokens, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr):
    e = tl.program_id(0)
    k = tl.arange(0, KP)
    total = tl.cast(0, tl.int32)
    for start in range(0, tokens, BLOCK):
        t = start + tl.arange(0, BLOCK)
        mask = (t < tokens)[:, None] & (k < K)[None, :]
        at = t[:, None] * K + k[None, :]
        expert = tl.load(topk + at, mask=mask, other=-2).to(tl.int32)
        match = expert == e
        hit = tl.max(match.to(tl.int32), axis=1)
        mine = total + tl.cumsum(hit, 0) - hit
        # Unused entries (-1) belong to no expert: the first program marks them.
        unused = expert == tl.where(e == 0, -1, -3)
        value = tl.where(match, tl.zeros([BLOCK, KP], tl.int32) + mine[:, None], -1)
        tl.store(place + at, value, mask=mask & (match | unused))
        total += tl.sum(hit)
    tl.store(counts + e, total)


def layout_groups(topk: torch.Tensor, groups: int, experts_per_group: int, out: Groups | None = None) -> Groups:
    """``topk``: [tokens, top_k] expert numbers, -1 where unused, an expert at most once per token."""
    tokens, top_k = topk.shape
    out = out or Groups(_int(topk, groups), _int(topk, tokens, groups))
    shape = {"K": top_k, "KP": triton.next_power_of_2(top_k), "BLOCK": _block(tokens)}
    groups_kernel[(groups,)](topk, out.counts, out.slot, tokens, groups, experts_per_group, **shape)
    return out


def layout_experts(topk: torch.Tensor, experts: int, out: Experts | None = None) -> Experts:
    """As ``layout_groups``, per expert."""
    tokens, top_k = topk.shape
    out = out or Experts(_int(topk, experts), _int(topk, tokens, top_k))
    shape = {"K": top_k, "KP": triton.next_power_of_2(top_k), "BLOCK": _block(tokens)}
    experts_kernel[(experts,)](topk, out.counts, out.place, tokens, **shape)
    return out


def layout_groups_reference(topk: torch.Tensor, groups: int, experts_per_group: int) -> Groups:
    group = torch.where(topk >= 0, topk // experts_per_group, -1)
    sent = (group[:, :, None] == torch.arange(groups, device=topk.device)).any(1)
    place = sent.cumsum(0) - 1
    return Groups(sent.sum(0).int(), torch.where(sent, place, -1).int())


def layout_experts_reference(topk: torch.Tensor, experts: int) -> Experts:
    chosen = topk[:, :, None] == torch.arange(experts, device=topk.device)
    place = (chosen.any(1).cumsum(0) - 1)[:, None, :].expand(chosen.shape)
    return Experts(chosen.sum((0, 1)).int(), torch.where(chosen, place, -1).amax(2).int())


def layout_bytes(tokens: int, top_k: int, groups: int, experts: int, index_bytes: int = 8) -> int:
    """Fewest bytes both launches must move: the indices once each, all tables once."""
    return 2 * tokens * top_k * index_bytes + 4 * (tokens * groups + groups + tokens * top_k + experts)


def _int(like: torch.Tensor, *shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.int32, device=like.device)


def _block(tokens: int) -> int:
    return min(1024, max(16, int(triton.next_power_of_2(tokens))))
