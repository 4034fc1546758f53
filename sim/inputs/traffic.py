"""What arrives at the layer: how many tokens each rank holds, and how the router spreads them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...hwmodels.errors import BadInput

RoutingKind = Literal["uniform", "balanced", "group-limited", "power-law", "file"]


class Routing(BaseModel):
    """How top-k experts are drawn.

    ``uniform``: k distinct experts, all equally likely. ``balanced``: experts dealt round-robin, so that every rank
    receives the same rows and a token's experts lie on as many ranks as possible (TensorRT-LLM's benchmark). ``group-limited``:
    DeepSeek's device-limited routing, the ``groups_kept`` best of ``groups`` node groups first. ``power-law``: popularity
    proportional to ``rank_of_expert ** -alpha``, popularity order shuffled by the seed. ``file``: top-k ids (one token per row)
    or an expert histogram (one count per expert, in a file of several layers for each of them) from ``file``; ``layer``: that
    layer's counts alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: RoutingKind = "uniform"
    groups: int | None = Field(default=None, ge=1, description="expert groups; default: one per node")
    groups_kept: int | None = Field(default=None, ge=1, description="groups a token may use; default: min(groups, 4)")
    alpha: float | None = Field(default=None, ge=0.0, le=10.0, description="exponent of the power law; default: 1")
    file: Path | None = None
    layer: int | None = Field(default=None, ge=0, le=4095, description="of a file with layers; default: every layer its own")

    @model_validator(mode="after")
    def _file_goes_with_kind(self) -> Routing:
        if (self.kind == "file") != (self.file is not None):
            raise ValueError("routing.file goes with routing.kind=file, and only with it")
        if self.layer is not None and self.file is None:
            raise ValueError("routing.layer goes with routing.file, a file that has layers")
        for key, kind in (("alpha", "power-law"), ("groups", "group-limited"), ("groups_kept", "group-limited")):
            if getattr(self, key) is not None and self.kind != kind:
                raise ValueError(f"routing.{key} goes with routing.kind={kind}, kind is {self.kind}")
        return self

    @property
    def exponent(self) -> float:
        """Of the power law; 0 for other kinds."""
        return (1.0 if self.alpha is None else self.alpha) if self.kind == "power-law" else 0.0


class Traffic(BaseModel):
    """Tokens on each rank at the layer's entry. ``tokens_per_rank`` is one number for all, or one per rank."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens_per_rank: int | tuple[int, ...]
    routing: Routing = Routing()

    @model_validator(mode="after")
    def _not_absurd(self) -> Traffic:
        tokens = self.tokens_per_rank if isinstance(self.tokens_per_rank, tuple) else (self.tokens_per_rank,)
        if any(t < 0 for t in tokens) or max(tokens, default=0) == 0:
            raise ValueError(f"tokens_per_rank needs at least one token and no negative count, got {self.tokens_per_rank}")
        if max(tokens) > 1 << 20:
            raise ValueError(f"tokens_per_rank {max(tokens)} is beyond 1,048,576: is a unit wrong?")
        return self

    def on_ranks(self, ranks: int) -> tuple[int, ...]:
        """Tokens of each of ``ranks`` ranks. Raises BadInput if the list has another length."""
        if isinstance(self.tokens_per_rank, int):
            return (self.tokens_per_rank,) * ranks
        if len(self.tokens_per_rank) != ranks:
            raise BadInput(f"tokens_per_rank lists {len(self.tokens_per_rank)} ranks, the deployment has {ranks}")
        return self.tokens_per_rank
