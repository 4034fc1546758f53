"""Datasheet records of GPUs, NICs, nodes and clusters. Quantities are SI floats: bytes, seconds, bytes/s, Hz.

In YAML every quantity is a string with its unit ("450 GB/s", "80 GiB", "2.1 us"); `units` parses them. Each record
names the source of every field in ``sources`` (field -> "document, date" or link); what a source begins with is its grade.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from .price_tag import PriceTag
from .units import Bytes, BytesPerSecond, Hertz, PerSecond, Seconds, Watts

SET_BY_USER = "set by the user"
#: How the source of a number in a user's own file begins, where the file says no other.
YOURS = "yours:"
#: How good a source is, by the word that it begins with ("press: …"); a source without one is the maker's own document.
Grade = Literal["vendor", "measured", "derived", "press", "assumed", "user"]
_GRADES: tuple[Grade, ...] = ("measured", "derived", "press", "assumed")


def grade_of(source: str) -> Grade:
    """How good a source is, by the word that it begins with."""
    if source.startswith((SET_BY_USER, YOURS)):
        return "user"
    return next((grade for grade in _GRADES if source.startswith(f"{grade}:")), "vendor")


#: Changed numbers that a label names; more are counted.
MOST_NAMED = 3


class Datasheet(BaseModel):
    """A named record whose every other field has an entry in ``sources`` (or shares the entry ``"*"``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sources: dict[str, str] = Field(min_length=1)

    def source(self, field: str) -> str:
        """Where the value of ``field`` is from; "" for a field that is not stated."""
        return self.sources.get(field, self.sources.get("*", ""))

    def grade(self, field: str) -> Grade:
        """How good that source is."""
        return grade_of(self.source(field))

    def graded(self, *grades: Grade) -> tuple[str, ...]:
        """The stated fields whose source has one of ``grades``, in the record's order."""
        fields = (f for f in type(self).model_fields if f in self.model_fields_set and f not in ("name", "sources"))
        return tuple(field for field in fields if self.grade(field) in grades)

    @property
    def label(self) -> str:
        """The name, and what the user changed: "h100-sxm with hbm_bandwidth 4 TB/s" is no H100 any more."""
        values = self.model_dump(mode="json")
        changed = [f"{key} {_in_words(values[key])}" for key in values if self.sources.get(key) == SET_BY_USER]
        if len(changed) > MOST_NAMED:
            return f"{self.name} with {len(changed)} numbers changed"
        return f"{self.name} with {' and '.join(changed)}" if changed else self.name

    @model_validator(mode="after")
    def _every_constant_has_a_source(self) -> Self:
        known = set(type(self).model_fields) - {"name", "sources"}
        unknown = set(self.sources) - known - {"*"}
        if unknown:
            raise ValueError(f"{self.name}: sources names unknown fields {sorted(unknown)}")
        missing = sorted(f for f in self.model_fields_set & known if f not in self.sources and "*" not in self.sources)
        if missing:
            raise ValueError(f"{self.name}: no source for {missing}")
        return self


TensorDtype = Literal["bf16", "fp8", "fp4"]


class Gpu(Datasheet):
    """One GPU. ``tensor_flop_per_cycle_sm``: dense multiply-add flops one SM issues a cycle, by dtype (bf16, fp8, fp4).
    ``exp_per_cycle_sm``: exponentials, which softmax needs one of for every score.

    ``price``: of a GPU that the price file does not know. What no time depends on may be left out (None).
    """

    sms: Annotated[int, Field(ge=1, le=1024)]
    clock: Hertz  # the clock the tensor rate is quoted at
    tensor_flop_per_cycle_sm: dict[TensorDtype, Annotated[float, Field(gt=0)]]
    hbm_capacity: Bytes
    hbm_bandwidth: BytesPerSecond
    l2_capacity: Bytes | None = None
    shared_memory_per_sm: Bytes | None = None
    copy_engines: Annotated[int, Field(ge=0, le=64)] | None = None
    nvlink_bandwidth: BytesPerSecond  # per direction, raw: of NVLink, or of whatever joins the GPUs of a domain
    pcie_bandwidth: BytesPerSecond  # per direction, raw
    power: Watts
    exp_per_cycle_sm: Annotated[float, Field(gt=0)] = 16.0  # CUDA C++ Programming Guide, throughput of native instructions
    price: PriceTag | None = None

    def tensor_flops(self, dtype: TensorDtype) -> float:
        """Peak dense flop/s of the whole GPU in ``dtype``. Raises KeyError if the GPU has no such tensor rate."""
        return self.tensor_flop_per_cycle_sm[dtype] * self.sms * self.clock


class Nic(Datasheet):
    """One network interface. ``message_cost`` is the sender's time per posted message on one queue pair."""

    bandwidth: BytesPerSecond  # per direction, line rate
    efficiency: Annotated[float, Field(gt=0, le=1)]  # best large-message goodput / line rate
    message_rate: PerSecond
    message_cost: Seconds
    latency: Seconds  # one way, NIC to NIC through one switch
    queue_pairs: Annotated[int, Field(ge=1)]
    ordered: bool  # a queue pair delivers in order (EFA does not)
    verbs: bool = True  # connections and remote atomics (EFA has neither)


class Switch(Datasheet):
    """A network switch: ports at ``port_bandwidth`` and ``latency`` per hop."""

    ports: Annotated[int, Field(ge=2)]
    port_bandwidth: BytesPerSecond
    latency: Seconds


class Link(Datasheet):
    """A point-to-point link that is no NIC, such as PCIe: what one direction carries at best, and the time one way."""

    bandwidth: BytesPerSecond  # per direction, line rate
    efficiency: Annotated[float, Field(gt=0, le=1)]  # best large-transfer goodput / line rate
    latency: Seconds  # one way, a posted write


class Node(BaseModel):
    """GPUs of one server and their NICs. One NIC per GPU unless ``nics`` says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: Gpu
    gpus: Annotated[int, Field(ge=1, le=1024)]
    nic: Nic
    nics: Annotated[int, Field(ge=1, le=1024)]

    @model_validator(mode="after")
    def _nics_are_shared_evenly(self) -> Self:
        if self.nics % self.gpus and self.gpus % self.nics:
            raise ValueError(
                f"nics ({self.nics}) do not share evenly among gpus ({self.gpus}): use nics={self.gpus}, or a divisor"
            )
        return self


#: What may be wrong between nodes, by name.
Sickness = Literal["no-adaptive-routing", "cpu-fallback", "slow-nic"]


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Fabric(BaseModel):
    """How nodes are joined.

    ``rail-optimised``: NIC i of every node meets at leaf switch i, full rate inside a rail. ``fat-tree``: all NICs of
    a node meet at one leaf; leaves meet at a spine whose uplinks carry 1/``oversubscription`` of the leaf's host bandwidth.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rail-optimised", "fat-tree"]
    switch: Switch
    oversubscription: Annotated[float, Field(ge=1, le=64)] = 1.0
    nodes_per_leaf: Annotated[int, Field(ge=1)] = 16


class Mesh(BaseModel):
    """How GPUs of a domain are joined where no switch is between them: each to its neighbours in a grid of ``shape``, whose
    rows are rings if ``wrap`` (a torus). ``link_bandwidth`` and ``link_latency`` are of one link, one way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Annotated[tuple[Annotated[int, Field(ge=2, le=1024)], ...], Field(min_length=1, max_length=4)]
    wrap: bool = True
    link_bandwidth: BytesPerSecond
    link_latency: Seconds


class Cluster(BaseModel):
    """Up to ``max_nodes`` nodes on a fabric. ``nodes_per_nvlink_domain`` > 1 joins nodes by NVLink (NVL72: 18 of 4 GPUs).

    ``mesh``: the links of a domain that has no switch; ``gpu.nvlink_bandwidth`` then says nothing of an exchange.
    ``calibration`` names the system (file stem in data/calibrated) whose fitted parameters describe this hardware; ``file`` is
    where a cluster of the user's was read from. ``sick``: what is taken to be wrong between its nodes (`sick`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    node: Node
    nodes: Annotated[int, Field(ge=1, le=4096)]
    max_nodes: Annotated[int, Field(ge=1, le=4096)]
    nodes_per_nvlink_domain: Annotated[int, Field(ge=1, le=4096)] = 1
    fabric: Fabric
    mesh: Mesh | None = None
    sick: Annotated[tuple[Sickness, ...], BeforeValidator(_as_list)] = ()
    calibration: str
    sources: dict[str, str]
    file: str = ""

    @property
    def label(self) -> str:
        """The name, and the parts that the user put in or changed: what an answer calls it."""
        gpu, nic = self.node.gpu, self.node.nic
        swapped = {"node.gpu": gpu.label, "node.nic": nic.label, "fabric.switch": self.fabric.switch.label}
        changed = [label for key, label in swapped.items() if self.sources.get(key) == SET_BY_USER or " with " in label]
        changed += self.sick
        return f"{self.name} with {' and '.join(changed)}" if changed else self.name

    @property
    def gpus(self) -> int:
        return self.nodes * self.node.gpus

    @property
    def nvlink_domain_gpus(self) -> int:
        """GPUs that reach each other over NVLink."""
        return self.nodes_per_nvlink_domain * self.node.gpus

    @model_validator(mode="after")
    def _the_mesh_is_the_domain(self) -> Self:
        if self.mesh is not None and (size := prod(self.mesh.shape)) != self.nvlink_domain_gpus:
            shape = " x ".join(map(str, self.mesh.shape))
            raise ValueError(
                f"mesh.shape ({shape}) is of {size} GPUs, a domain of {self.name} has {self.nvlink_domain_gpus}: change it, "
                "or nodes_per_nvlink_domain"
            )
        return self

    @model_validator(mode="after")
    def _not_beyond_its_size(self) -> Self:
        if self.nodes > self.max_nodes:
            raise ValueError(
                f"{self.name} has at most {self.max_nodes} nodes, {self.nodes} asked for: use fewer, or raise max_nodes"
            )
        return self


def _in_words(value: object) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
