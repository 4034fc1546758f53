"""What a protocol is: one record of its kernels, its reach, its buffers, and what it needs of an engine.

A protocol is a file of `protocols` that lists its records in ``PROTOCOLS``; nothing else has to know of it. Whoever asks what
a protocol does asks its record; whoever asks how long it takes asks `describe` for its stages.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np

from ...hwmodels.calibration import Entry, Scope, constants_of, find_entry, library_rows, load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import UnknownName
from ..precision import Dtype
from . import protocols as package
from .buffer import Buffer, Demand
from .compute.fused_experts import FusedExperts
from .compute.own_experts import OwnExperts
from .limit import Limit
from .shape import Num, Path, Rows, Shape
from .stage import Machine, Stage

Layout = Literal["contiguous", "masked", "masked if replayed"]
#: From a shape, a machine and an op's constants to its stages.
Describe = Callable[[Shape, Machine, Any, "Context"], tuple[Stage, ...]]


@dataclass(frozen=True, slots=True)
class Context:
    """What a few protocols need beyond the shape: GPUs of one server, separate wire fields of a row (fp4: values and
    scales), slot size of a padded all-to-all, and the share of a kernel's rows that are not in L2 when it starts (a benchmark
    that repeats a small case finds them there)."""

    gpus_per_node: Num = 8.0
    fields: Num = 1.0
    capacity_factor: Num = 1.0
    cold: Num = 1.0


@dataclass(frozen=True, slots=True)
class Op:
    """One kernel (or kernel pair): the record of its fitted constants, and its description.

    ``shown``: how its stages call it, where not by its name. ``scope``: where it was measured, whatever the exchange's scope.
    """

    name: str
    constants: type
    describe: Describe
    shown: str = ""
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class Loan:
    """Constants of an op that nobody measured, the entry of another protocol's that weighs most in them, and whose it is."""

    constants: Any
    entry: Entry
    system: str
    lender: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to bring tokens to their experts and results back.

    ``name``: how deployments ask for it; ``tables``: how measurement tables call it; ``kernels``: whose kernels it describes.
    ``what`` and ``holds``: what it is and what its buffers are, in words. ``before`` and ``after``: its ops around the
    experts. ``near`` and ``far``: the measurements that describe it inside one NVLink domain and across several; where they are
    the same, nobody measured it beyond.

    Reach: ``one_domain``: all ranks share an NVLink domain. ``rails``: between domains a row goes to the GPU of the same index
    and on from there, so that groups are whole domains. ``rows``: what a receiver gets one row of (`Rows.PAIR`: the same
    whatever the router says).

    Of an engine: ``on_comm_sms``: its kernels take ``comm_sms`` SMs from the experts. ``replays``: its shapes are static, so
    that CUDA graphs can replay a step. ``capacity``: least capacity of one call, whose tokens are limited (None: they are not).
    ``layout``: of the expert kernels. ``packed``: rows arrive in their experts' order, in a rectangle with room for every token
    of every rank, so that nothing is permuted. ``overlaps``: engines hide it behind a second micro-batch. ``prompts_by``: the
    protocol that carries prompts instead ("": itself). ``engines``: those that plans try it with unasked; ``offered``: others
    that have an option for it.

    ``transports``: what may carry its messages between domains, the first that a NIC takes unless another is asked for.
    ``lend``: where the constants of its ops come from if nobody measured it. ``slot_rows``: rows that a pair of ranks has room
    for; what exceeds them is dropped. ``counts``: every rank learns beforehand what it will receive. ``own_experts``: from a
    system and the weights' dtype to the protocol's own expert kernels (None: not in that dtype); else DeepGEMM's. ``fused``:
    from a system to experts that run in the exchange's own kernel.
    ``limits``: what its library cannot do at all; ``cautions``: what some versions get wrong. ``caveats`` and
    ``caveats_across``: what every answer has to say, and every answer across domains.
    """

    name: str
    what: str
    holds: str
    kernels: str
    before: tuple[Op, ...]
    after: tuple[Op, ...]
    buffers: Callable[[Demand], Iterator[Buffer]]
    near: Scope
    far: Scope
    tables: tuple[str, ...] = ()
    one_domain: bool = False
    rails: bool = False
    rows: Rows = Rows.RANK
    on_comm_sms: bool = False
    replays: bool = True
    capacity: int | None = None
    layout: Layout = "contiguous"
    packed: bool = False
    overlaps: bool = False
    prompts_by: str = ""
    engines: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    lend: Callable[[str, str, Scope], Loan] | None = None
    slot_rows: Callable[[Shape, Num], Num] | None = None
    counts: bool = False
    own_experts: Callable[[str, Dtype], OwnExperts | None] | None = None
    fused: Callable[[str], FusedExperts] | None = None
    limits: tuple[Limit, ...] = ()
    cautions: tuple[Limit, ...] = ()
    caveats: tuple[str, ...] = ()
    caveats_across: tuple[str, ...] = ()

    @property
    def ops(self) -> Mapping[str, Op]:
        """All ops by name, in order."""
        return {op.name: op for op in (*self.before, *self.after)}

    @property
    def where(self) -> str:
        """How far it reaches, in words."""
        if self.one_domain:
            return "one NVLink domain"
        return "any domain, or whole ones" if self.rails else "anywhere"

    @property
    def row(self) -> dict[str, str]:
        """What the catalogue says of it, column by column."""
        experts = self.layout.replace("if replayed", "under CUDA graphs, else contiguous")
        return {
            "protocol": self.name,
            "what it is": self.what,
            "whose kernels": self.kernels,
            "where": self.where,
            "its expert kernels": experts,
            "its buffers": self.holds,
        }

    @property
    def measured_across(self) -> bool:
        """Whether anybody measured it (or its lenders) over several NVLink domains."""
        return self.far != self.near

    def scope(self, one_domain: bool) -> Scope:
        """Which measurements describe an exchange inside ``one_domain``, or beyond."""
        return self.near if one_domain else self.far

    def kind(self, replayed: bool) -> Literal["contiguous", "masked"]:
        """The expert kernels it goes with: masked where rows come in a fixed buffer for every expert."""
        if self.layout == "masked if replayed":
            return "masked" if replayed else "contiguous"
        return self.layout


@dataclass(frozen=True, slots=True)
class Described:
    """An op's stages on a calibrated system, and where its constants came from.

    ``lender``: the other protocol whose kernels were measured, where nobody measured this one's.
    """

    stages: tuple[Stage, ...]
    calibrated_on: str
    entry: Entry
    lender: str = ""


def all_protocols() -> Mapping[str, Protocol]:
    """Every protocol by name, as the files of `protocols` list them."""
    return _found(tuple(package.__path__))


def find_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises UnknownName."""
    known = all_protocols()
    if name not in known:
        raise UnknownName("protocol", name, known, "epicycle catalog protocols")
    return known[name]


def protocol_table() -> str:
    """All protocols as a Markdown table: what each is, where it works, what it goes with."""
    rows = [record.row for record in all_protocols().values()]
    first = next(iter(rows[0]))
    lines = (rows[0], ("---",) * len(rows[0]), *({**row, first: f"`{row[first]}`"}.values() for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def unmeasured_note(protocol: str, lenders: Iterable[str] = ()) -> str:
    """What an answer says of a protocol whose kernels' times are other kernels' (of the ``lenders``)."""
    whose = f"the {' and '.join(lenders)} kernels'" if lenders else "other kernels'"
    own = library_rows(protocol)
    wider = "and its interval is as much wider as such loans were found to miss"
    if own:
        return f"{protocol} leans on {whose} constants and {own} published row{'s' if own > 1 else ''} of its own, {wider}"
    return f"{protocol} is unmeasured: its constants are {whose}, {wider}"


def describe(protocol: str, op: str, scope: Scope, system: str, shape: Shape, machine: Machine, context: Context) -> Described:
    """The stages of ``op`` with ``system``'s constants (or its nearest relative's). Raises BadInput if nobody measured it."""
    record = find_protocol(protocol)
    kernel = record.ops[op]
    if record.lend is not None:
        loan = record.lend(system, op, scope)
        constants, entry, source, lender = loan.constants, loan.entry, loan.system, loan.lender
    else:
        entry, source = find_entry(system, protocol, op, kernel.scope or scope)
        constants, lender = constants_of(entry, kernel.constants), ""
    stages = kernel.describe(shape, machine, constants, context)
    reference = _nic_latency(load_calibration(source).cluster)
    return Described(tuple(_other_wire(s, machine.wire_latency_s - reference) for s in stages), source, entry, lender)


@cache
def _found(places: tuple[str, ...]) -> Mapping[str, Protocol]:
    found: dict[str, Protocol] = {}
    for module in sorted(entry.name for entry in pkgutil.iter_modules(places)):
        for record in getattr(import_module(f"{package.__name__}.{module}"), "PROTOCOLS", ()):
            if record.name in found:
                raise ValueError(f"{module}: there is another protocol called {record.name!r}")
            found[record.name] = record
    return found


@cache
def _nic_latency(cluster: str) -> float:
    return load_cluster(cluster).node.nic.latency


def _other_wire(stage: Stage, extra_s: float) -> Stage:
    """The stage on a NIC whose one-way latency differs by ``extra_s`` from the one its launch was fitted with."""
    far = (move for move in stage.moves if move.path in (Path.RDMA, Path.RAIL))  # some only work on what came from afar
    if extra_s == 0.0 or not any(load.resource in ("nic", "nic_msg") for move in far for load in move.loads):
        return stage
    more = np.maximum(extra_s * stage.crossings, -np.asarray(stage.latency_s))
    return replace(stage, latencies=(*stage.latencies, ("NIC latency and hand-over against the calibrated ones", more)))
