"""How the layer is laid out on the cluster: ranks, protocol, precision, SMs and expert replicas."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticKnownError

from ..ep.protocols import DEFAULT
from ..precision import Dtype


def _known(name: str) -> str:
    from ..ep.protocol import all_protocols  # numpy comes with it, which reading a file does without

    *others, last = (f"'{known}'" for known in all_protocols())
    if name not in all_protocols():
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
    return name


#: The name of one of `ep.protocol.all_protocols`.
Protocol = Annotated[str, AfterValidator(_known)]
Placement = Literal["contiguous", "round-robin", "balanced"]


class Deployment(BaseModel):
    """One expert-parallel arrangement of one MoE layer.

    ``ep`` ranks, one GPU each, filling nodes in order. ``payload`` is the dispatch precision on the wire (combine is bf16);
    ``weights`` the experts' precision. ``comm_sms`` are the SMs of the high-throughput and elastic kernels (the others run on
    all SMs). ``max_tokens`` is the low-latency capacity per rank and call: larger batches are micro-batched.
    ``capacity_factor``: slot size of the padded all-to-all over the rows a pair of ranks may expect. ``reserved_sms`` are kept
    from the experts' GEMMs for communication that runs beside them. ``cuda_graphs``: kernels are replayed, the host's launches
    cost nothing. ``transport``: what carries the protocol's messages between domains, by its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ep: int = Field(ge=2, le=4096)
    protocol: Protocol = DEFAULT
    compare: tuple[Protocol, ...] = ()
    transport: str | None = Field(default=None, description="default: the protocol's first that the NIC takes")
    payload: Dtype = "fp8"
    weights: Dtype = "fp8"
    comm_sms: int = Field(default=24, ge=2, le=1024)
    max_tokens: int | None = Field(default=None, ge=1, description="low-latency capacity; default: max(128, tokens per rank)")
    placement: Placement = "contiguous"
    redundant_experts: int = Field(default=0, ge=0)
    capacity_factor: float = Field(default=1.25, ge=1.0, le=64.0)
    reserved_sms: int = Field(default=0, ge=0, le=1024)
    cuda_graphs: bool | None = Field(default=None, description="default: with all protocols but high-throughput")
