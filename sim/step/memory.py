"""What one worker's fullest GPU holds: weights, buffers, activations, and what they leave for KV cache.

Every field of the `Arrangement` may be an array: one call answers a whole table of candidates. Bytes are of one GPU of the
pipeline stage that has room for the fewest sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.specs import Cluster
from ...hwmodels.units import format_bytes
from ..ep.buffer import MemoryItem
from ..ep.protocol import find_protocol
from ..inputs.model import MoeModel
from .buffers import activation_bytes, exchange_buffers
from .part import Num
from .weights import cache_bytes, stage_of
from .worker import Arrangement, Precision, for_prompts

#: assumed: CUDA context, NCCL and NVSHMEM heaps, cuBLAS and attention workspaces; no formula counts them (`layer.holdings`).
RUNTIME_BYTES = 3 * 2.0**30
#: assumed: captured decode graphs of all batch sizes. vLLM prints what its capture took at start-up, mostly 0.5 to 2 GiB.
GRAPH_BYTES = 1.0 * 2.0**30


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """``items``: bytes of every named part, KV cache not among them; ``sources``: the formula of each.

    ``usable_bytes``: the share of HBM an engine may fill. ``kv_token_bytes``: what one more token of context adds on this GPU;
    ``sequence_bytes``: what a sequence of the asked context holds there, windows and constant states included. ``kv_bytes``:
    what remains for them, negative where the rest alone does not fit; ``kv_tokens`` and ``sequences``: as many as it holds, of
    one attention group. ``fits``: at least one sequence has room.
    """

    items: Mapping[str, Num]
    sources: Mapping[str, str]
    hbm_bytes: float
    usable_bytes: Num
    kv_token_bytes: Num
    sequence_bytes: Num
    context: Num

    @property
    def used_bytes(self) -> Num:
        return sum(self.items.values(), 0.0)

    @property
    def weight_bytes(self) -> Num:
        return sum((size for name, size in self.items.items() if name in _WEIGHTS), 0.0)

    @property
    def kv_bytes(self) -> Num:
        return self.usable_bytes - self.used_bytes

    @property
    def kv_tokens(self) -> Num:
        """Tokens of context that fit beside each other, constant states not counted; inf where none grows."""
        with np.errstate(divide="ignore", invalid="ignore"):
            tokens: Num = np.where(
                self.kv_token_bytes > 0, np.floor(np.maximum(self.kv_bytes, 0.0) / self.kv_token_bytes), np.inf
            )
        return tokens

    @property
    def sequences(self) -> Num:
        """Sequences of ``context`` tokens of one attention group that fit."""
        return np.floor(np.maximum(self.kv_bytes, 0.0) / self.sequence_bytes)

    @property
    def fits(self) -> NDArray[np.bool_]:
        return np.asarray(self.kv_bytes >= self.sequence_bytes)

    @property
    def short_bytes(self) -> Num:
        """Bytes that one sequence more than everything else lacks; 0 where it fits."""
        return np.maximum(self.used_bytes + self.sequence_bytes - self.usable_bytes, 0.0)

    def largest(self, at: int = 0) -> str:
        """The part that takes most, of candidate ``at``."""
        return max(self.items, key=lambda name: _one(self.items[name], at))

    def refusal(self, at: int = 0) -> str:
        """Why candidate ``at`` does not fit, and by how much, in one line. Empty if it does."""
        short = _one(self.short_bytes, at)
        if short <= 0:
            return ""
        name = self.largest(at)
        return (
            f"needs {format_bytes(_one(self.used_bytes + self.sequence_bytes, at), binary=True)} a GPU for one sequence of "
            f"{_one(self.context, at):,.0f} tokens, {format_bytes(short, binary=True)} more than it may fill; "
            f"the largest part is {name} ({format_bytes(_one(self.items[name], at), binary=True)})"
        )

    def table(self, at: int = 0, sequences: float | None = None) -> tuple[MemoryItem, ...]:
        """The parts of candidate ``at`` and the KV cache: of ``sequences`` sequences, else all that remains."""
        left = max(0.0, _one(self.kv_bytes, at))
        kv = left if sequences is None else sequences * _one(self.sequence_bytes, at)
        said = f"{_one(self.kv_token_bytes, at):,.0f} B a token and GPU" + (
            f", {sequences:,.0f} sequences of {_one(self.context, at):,.0f} tokens"
            if sequences is not None
            else ", what remains"
        )
        parts = [MemoryItem(n, round(_one(v, at)), self.sources[n]) for n, v in self.items.items() if _one(v, at) > 0]
        return (*parts, MemoryItem("KV cache", round(kv), said))


_WEIGHTS = (
    "attention weights",
    "dense and shared MLP weights",
    "routed expert weights",
    "router weights",
    "embeddings and LM head",
    "MTP layers",
)


def worker_memory(
    model: MoeModel,
    arrangement: Arrangement,
    precision: Precision,
    cluster: Cluster,
    *,
    tokens_per_step: Num,
    prompt_tokens: Num = 0.0,
    memory_share: float = 0.9,
    context: Num = 0.0,
    graphs: bool = True,
    mtp: int = 0,
) -> WorkerMemory:
    """Memory of one GPU of a worker.

    ``tokens_per_step``: rows of one attention group in its largest step; ``prompt_tokens``: of prompts computed in the same
    worker, which travel as `for_prompts` says. ``context``: tokens of a sequence that `sequences` are
    counted at. ``mtp``: draft tokens a step; above 0 the model's MTP layers are loaded. Formulas in each item's source.
    """
    stages = [stage_of(model, arrangement, precision, number, mtp) for number in range(int(np.max(arrangement.pp)))]
    buffers, activations = _of_steps(model, arrangement, precision, cluster, tokens_per_step, prompt_tokens)
    common: dict[str, Num] = {name: size for name, (size, _) in buffers.items()}
    said = {**_SOURCES, **{name: source for name, (_, source) in buffers.items()}}
    common["activations"] = activations
    common["CUDA graphs"] = GRAPH_BYTES if graphs else 0.0
    common["runtime"] = RUNTIME_BYTES
    usable = cluster.node.gpu.hbm_capacity * memory_share
    left = usable - sum(common.values(), 0.0)
    # The stage that has room for the fewest sequences decides; a stage beyond the pipeline's last one has no say.
    room = [
        np.where(
            number < np.asarray(arrangement.pp),
            (left - sum(weights.values(), 0.0)) / np.maximum(cache_bytes(model, arrangement, precision, context, part)[1], 1.0),
            np.inf,
        )
        for number, (weights, part) in enumerate(stages)
    ]
    fullest = np.argmin(np.stack(np.broadcast_arrays(*room)), axis=0)
    share = _choose(fullest, [part for _, part in stages])
    weights = {name: _choose(fullest, [each[name] for each, _ in stages]) for name in _WEIGHTS}
    token, sequence = cache_bytes(model, arrangement, precision, context, share)
    return WorkerMemory(
        {**weights, **common}, said, cluster.node.gpu.hbm_capacity, usable, token, np.maximum(sequence, 1.0), context
    )


def _of_steps(
    model: MoeModel, a: Arrangement, precision: Precision, cluster: Cluster, rows: Num, prompts: Num
) -> tuple[dict[str, tuple[Num, str]], Num]:
    """Exchange buffers, name -> (bytes, formula), and activations: of one kind of step, or of decoding and of prompts where
    they travel differently."""
    apart = for_prompts(a)
    alike = apart.protocol == a.protocol and find_protocol(a.protocol).layout != "masked if replayed"
    if alike or not np.any(np.asarray(prompts) > 0.0):
        both = rows + prompts
        found = list(exchange_buffers(model, a, precision, cluster, both))
        return {b.name: (b.bytes, b.source) for b in found}, activation_bytes(model, a, precision, both)
    buffers = {b.name: (b.bytes, b.source) for b in exchange_buffers(model, a, precision, cluster, rows)}
    for b in exchange_buffers(model, apart, precision, cluster, prompts):
        held, said = buffers.get(b.name, (0.0, b.source))
        said = said if said == b.source else f"{said}; of prompts: {b.source}"
        buffers[b.name] = np.maximum(held, b.bytes), said  # one buffer of a name serves both
    activations = np.maximum(activation_bytes(model, a, precision, rows), activation_bytes(model, apart, precision, prompts))
    return buffers, activations


def _choose(index: NDArray[np.intp], values: list[Num]) -> Num:
    if len(values) == 1:
        return values[0]
    stacked = np.stack([np.broadcast_to(np.asarray(v, float), index.shape) for v in values])
    chosen: Num = np.take_along_axis(stacked, index[np.newaxis], 0)[0]
    return chosen


def _one(value: Num, at: int) -> float:
    flat = np.asarray(value, float).ravel()
    return float(flat[at if flat.size > 1 else 0])


_SOURCES = {
    "attention weights": "projections by head over tp; MLA down-projections, indexers and KV heads beyond tp on every GPU",
    "dense and shared MLP weights": "gate, up and down of dense layers and shared experts, over tp",
    "routed expert weights": "ceil((experts + redundant) / ep) slots x gate, up and down / moe_tp, in each MoE layer",
    "router weights": "hidden x experts (and latent projections) in bf16, on every GPU",
    "embeddings and LM head": "vocab x hidden in bf16 over tp, on the first and the last stage",
    "MTP layers": "one more layer each, and its 2 hidden x hidden projection, on the last stage; it shares head and embeddings",
    "activations": "residual and normed rows, and the widest of attention, MLP, expert rows and logits of the largest step",
    "CUDA graphs": "assumed: captured decode graphs of all batch sizes (vLLM reports 0.5 to 2 GiB)",
    "runtime": "assumed: CUDA context, communication heaps, workspaces",
}
