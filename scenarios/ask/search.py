"""What a plan looks for: the deployments that are considered. Every field has a default, so that a question alone is enough."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from ...hwmodels.catalog import is_file, names
from ...hwmodels.errors import UnknownName
from ...sim.inputs.deployment import Placement, Protocol
from ...sim.inputs.serving import Acceptance, Backend, Mode, Width, check_acceptance
from ...sim.precision import Dtype

Several = Annotated[tuple[Width, ...], Field(min_length=1)]
Copies = Annotated[tuple[Annotated[int, Field(ge=0, le=65_536)], ...], Field(min_length=1)]
Chunks = Annotated[tuple[Annotated[int, Field(ge=16, le=1 << 20)], ...], Field(min_length=1)]
#: Sequences of one attention group that decode together: steps of about an eighth, as CUDA graphs are captured for.
BATCHES = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 44, 48, 56, 64, 72, 80, 88, 96, 112, 128),
    *(144, 160, 176, 192, 224, 256, 288, 320, 352, 384, 448, 512, 640, 768, 896, 1024),
)
#: Prompt tokens of one attention group in one step: the sizes engines are run with (vLLM's and SGLang's defaults among them).
CHUNK_TOKENS, PREFILL_CHUNK_TOKENS = (2048, 8192), (4096, 8192, 16384)


class Search(BaseModel):
    """Which deployments are considered. None: all that the model, the cluster and the budget allow.

    ``gpus``: the most that all workers together may use (default: the cluster's). ``clusters``: names or files of other
    hardware, each with as many GPUs, beside the scenario's own. ``tp``, ``dp``, ``pp``: widths of a worker (default: powers of
    two; dp also three times one; pipelines only without data-parallel attention). ``ep``: ranks the experts lie on (default:
    all GPUs of a stage; without data-parallel attention also 1). ``worker_gpus``: the most GPUs of one worker. ``counts``: how
    many workers (default: as the load and the budget ask for). ``prefill_…``: the same for prefill workers (default: as the
    others; counts as the load asks for).
    ``protocols``: to carry tokens to experts (default: those that the engine has and that were measured; all: whatever the
    engine has an option for; prefill workers never use low latency, whose slabs are sized for decoding).
    ``redundant_experts``: default none but to fill the ranks evenly, and one more a rank where routing is skewed.
    ``placement``: where experts lie, as in a deployment.
    ``batches``: sequences that decode together in an attention group; ``chunk_tokens``: prompt tokens of a step there beside
    decoding, ``prefill_chunk_tokens`` on prefill workers.
    ``weights`` to ``memory_share``: as in a deployment, the same for all.
    ``keep``: candidates returned at most. ``confirm``: of the best, how many have their exchange played event by event.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    _held: tuple[str, ...] = PrivateAttr(default=())
    _held_keys: frozenset[str] = PrivateAttr(default=frozenset())

    gpus: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    clusters: tuple[str, ...] = ()
    backends: Annotated[tuple[Backend, ...], Field(min_length=1)] = ("sglang",)
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("aggregated", "disaggregated")
    tp: Several | None = None
    dp: Several | None = None
    pp: Several | None = None
    ep: Several | None = None
    worker_gpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    prefill_tp: Several | None = None
    prefill_dp: Several | None = None
    prefill_pp: Several | None = None
    prefill_ep: Several | None = None
    prefill_worker_gpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    counts: Several | None = None
    prefill_counts: Several | None = None
    protocols: Literal["all"] | Annotated[tuple[Protocol, ...], Field(min_length=1)] | None = None
    prefill_protocols: Literal["all"] | Annotated[tuple[Protocol, ...], Field(min_length=1)] | None = None
    overlap: Annotated[tuple[bool, ...], Field(min_length=1)] = (False, True)
    prefill_overlap: Annotated[tuple[bool, ...], Field(min_length=1)] | None = None
    redundant_experts: Copies | None = None
    prefill_redundant_experts: Copies | None = None
    placement: Placement | None = None
    batches: Annotated[tuple[Annotated[int, Field(ge=1, le=1 << 20)], ...], Field(min_length=1)] = BATCHES
    chunk_tokens: Chunks = CHUNK_TOKENS
    prefill_chunk_tokens: Chunks = PREFILL_CHUNK_TOKENS
    comm_sms: Annotated[int, Field(ge=2, le=1024)] = 24
    weights: Dtype | None = None
    experts: Dtype | None = None
    kv: Dtype | None = None
    payload: Dtype | None = None
    mtp: Annotated[int, Field(ge=0, le=8)] = 0
    acceptance: Acceptance = 0.8
    memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    keep: Annotated[int, Field(ge=1, le=1000)] = 24
    confirm: Annotated[int, Field(ge=0, le=20)] = 3

    @model_validator(mode="after")
    def _a_chance_for_every_draft(self) -> Self:
        check_acceptance(self.acceptance, self.mtp)
        return self

    @model_validator(mode="after")
    def _clusters_are_known(self) -> Self:
        for name in self.clusters:
            if not is_file(name) and name not in names("clusters"):
                raise UnknownName("cluster", name, names("clusters"), "epicycle catalog clusters")
        return self

    @property
    def held(self) -> tuple[str, ...]:
        """What of a file's deployment is held, in words (`ask.held`)."""
        return self._held

    def holding(self, values: dict[str, Any], words: str) -> Search:
        """The search with ``values`` held, which ``words`` say."""
        found = self.model_copy(update=values)
        found._held, found._held_keys = (words,), frozenset(values)
        return found

    def is_held(self, *keys: str) -> bool:
        """Whether any of ``keys`` is held, so that asking for another value would be refused."""
        return not self._held_keys.isdisjoint(keys)
