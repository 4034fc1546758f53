"""Serving engines: the few times of their own that no kernel table holds, fitted to measured deployments.

One YAML file an engine in ``data/backends``. Kernels take what their laws say on the hardware at hand; an engine adds the gap
between two kernels of a graph, the host's work per step and per sequence, and the time of a small all-reduce in its own kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import strict_yaml
from .errors import BadInput, UnknownKey, UnknownName, one_line
from .interval import Regime
from .units import SI_NUMBERS, Seconds

Share = Annotated[float, Field(gt=0, le=4)]


class Constants(BaseModel):
    """One engine's own times. ``busy``: what kernels take in it over what they take alone in their tables; ``prompt_busy``:
    how much longer still on prompts, whose long matrix work draws the clock down and waits for the fullest GPU in every layer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gap: Seconds  # from one kernel of a replayed graph to the next: drain, launch, fill
    launch: Seconds  # the host's time for each kernel that no graph replays; runs beside the GPU
    step: Seconds  # host work of every step that no kernel hides: schedule, sample, hand out tokens
    sequence: Seconds  # the same for every running sequence
    first_token: Seconds = 0.0  # of every request beside its own steps: the server, the tokenizer
    first_steps: Annotated[float, Field(ge=0, le=60)] = 0.0  # steps until a new request's first token is handed out
    handover: Seconds = 0.0  # from a prefill to a decode worker beside the transfer: router, queues of both
    handover_steps: Annotated[float, Field(ge=0, le=400)] = 0.0  # steps of the decode worker until it hands out a first token
    all_reduce: Seconds  # a small all-reduce inside an NVLink domain by the engine's own kernel
    busy: Share = 1.0
    prompt_busy: Share = 1.0
    overlap_sms: Annotated[float, Field(ge=0, le=64)] = 0.0  # kept for communication while two halves of a batch overlap
    contention: Share = 1.189  # how much longer kernels take beside those of an overlapped exchange (`sim.step.overlap`)
    prompt_wait: Share = 1.0  # share of the prompts' time that a decoding request waits for
    fp4_weights: Share = 1.0  # HBM rate at which its 4-bit GEMMs read weights, over that of wider ones
    fp8_blackwell: Share = 1.0  # tensor rate of its block-scaled fp8 kernels on GPUs with fp4, over that of the tabled DeepGEMM
    widened: Annotated[float, Field(ge=0, le=4096)] = 64.0  # 4-bit weights an SM widens to bf16 in a cycle (0: for nothing)
    expert_launch: Share = 1.0  # fixed time of its expert kernels over that of the tabled ones (DeepGEMM, Triton)
    draft: Seconds = 0.0  # of a draft pass beside its kernels: one more launch of a graph, sampling, and its part of verifying
    fp8_mla: bool = False  # multiplies MLA in fp8 with an fp8 cache on Hopper, where most kernels widen the cache to bf16
    fused_experts: bool = False  # one Triton kernel for all experts where every GPU has all tokens, else DeepGEMM's


class VersionPace(BaseModel):
    """How long steps of one engine version take on models of one ``family``, over the engine's constants: shrunken towards 1
    by how few ``rows`` tell it. ``log_sd``: of its logarithm, what is left of doubt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    family: str
    released: str = Field(description="month of the release, or of the runs where no version was stated")
    pace: Share
    rows: int = Field(ge=1)
    log_sd: float = Field(ge=0)


class BackendFit(BaseModel):
    """Where the constants came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    rows: int = Field(ge=0)
    rows_available: int = Field(ge=0)
    median_pct: float
    mean_pct: float
    median_rest_pct: float
    mean_rest_pct: float
    method: str
    intervals: tuple[Regime, ...] = ()
    ttft_intervals: tuple[Regime, ...] = ()
    seen: dict[str, tuple[float, float]] = Field(default_factory=dict, description="range of each quantity in the table")


class Backend(BaseModel):
    """An engine: its constants, those that differ on a system, how it schedules prompts, and its fit.

    ``mixes_prompts``: prompt chunks share a step with decoding sequences; else a step is one or the other. ``balance``: how it
    deals prompts to attention groups that step together, where nobody asks for another way. ``acceptance``:
    chance of a drafted token in the measured deployments with multi-token prediction; ``expert_spread``: standard deviation of
    the experts' popularity over its mean in those that balance nothing; both of other traffic are its scenario's to say.
    ``versions``: how the pace of single versions differs, where measured deployments state them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    mixes_prompts: bool
    balance: Literal["round-robin", "wait", "perfect"] = "round-robin"
    constants: Constants
    acceptance: float = Field(0.7, gt=0, lt=1)
    expert_spread: float = Field(0.0, ge=0, le=4)
    systems: dict[str, dict[str, str | float]] = {}
    versions: tuple[VersionPace, ...] = ()
    sources: dict[str, str]
    fit: BackendFit | None = None

    def pace(self, version: str, family: str) -> float:
        """What steps of ``version`` take on a ``family`` over the constants: 1 where no measured row told."""
        return next((v.pace for v in self.versions if (v.version, v.family) == (version, family)), 1.0)

    def on(self, system: str) -> Constants:
        """The constants on ``system``, its own where the engine's fit tells them apart."""
        own = self.systems.get(system)
        return _replaced(self.constants, tuple(own.items())) if own else self.constants


def load_backend(name: str) -> Backend:
    """The engine called ``name``. Raises UnknownName with the nearest."""
    return _load(name)


def backend_names() -> tuple[str, ...]:
    """The sorted names of the engines."""
    return tuple(sorted(e.name.removesuffix(".yaml") for e in _folder().iterdir() if e.name.endswith(".yaml")))


def with_overrides(backend: Backend, changes: Mapping[str, object]) -> Backend:
    """``backend`` with constants replaced (on every system). Raises UnknownKey, or BadInput saying what does not fit."""
    for key in changes:
        if key not in Constants.model_fields:
            raise UnknownKey(backend.name, key, set(Constants.model_fields))
    systems = {s: {k: v for k, v in own.items() if k not in changes} for s, own in backend.systems.items()}
    data = {**backend.model_dump(mode="json"), "systems": systems}
    data["constants"] |= changes
    try:
        return Backend.model_validate(data)
    except ValidationError as error:
        raise BadInput(one_line(error, backend.name)) from None


@lru_cache(maxsize=256)  # every step of every answer asks
def _replaced(constants: Constants, own: tuple[tuple[str, str | float], ...]) -> Constants:
    return Constants.model_validate({**constants.model_dump(mode="json"), **dict(own)}, context=SI_NUMBERS)


@cache
def _load(name: str) -> Backend:
    if name not in backend_names():
        raise UnknownName("backend", name, backend_names(), "epicycle catalog backends")
    where = f"backends/{name}.yaml"
    try:
        return Backend.model_validate(strict_yaml.load(_folder().joinpath(f"{name}.yaml").read_text("utf-8"), where))
    except ValidationError as error:
        raise BadInput(one_line(error, where)) from None


def _folder() -> Any:
    return files("epicycle.hwmodels").joinpath("data", "backends")
