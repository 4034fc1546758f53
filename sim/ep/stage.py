"""How a protocol is described: stages of moves, each move a kind of row on a path with what it costs.

A protocol is a function ``(Shape, Machine, constants) -> tuple[Stage, ...]``. Two interpreters read the stages and know no
protocol: `play` gives every move the rows that a drawn routing sends and runs them against each other on the
fair-share network; `bound` gives it the expected rows, in numpy over whole tables of operating points.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .shape import Num, Path, Rows


class Join(Enum):
    """What a rank waits for before it begins a stage."""

    OWN = "its own previous stage"
    INBOUND = "its own previous stage, and everything the previous stage sent to it"
    ALL = "every rank's previous stage (a barrier)"


class End(Enum):
    """Which rank a local load falls on."""

    HOME = "the token's rank"
    VIA = "the forwarding rank of a two-hop path"
    EXPERT = "the expert's rank"


#: What bytes travel over, and which of it each path's first hop is: bytes that stay on a rank are local.
MEDIA = ("nvlink", "rdma", "local")
MEDIUM = {Path.SELF: "local", Path.NVLINK: "nvlink", Path.RDMA: "rdma", Path.RAIL: "rdma", Path.OWN: "nvlink"}
#: Shared resources: "nvlink" and "nic" count bytes and have a sending and a receiving side; "nic_msg" counts posted messages.
LINKS = ("nvlink", "nic", "nic_msg")
#: Resources of one rank alone: they count seconds of its time.
LOCAL = ("sm_send", "sm_receive", "sm_forward", "sm_copy", "hbm", "tensor", "host", "queue_pair")


@dataclass(frozen=True, slots=True)
class Load:
    """``per_row`` units of ``resource`` for each row of a move.

    Bytes on "nvlink" and "nic" (charged to the sender's and the receiver's side of that hop), messages on "nic_msg", seconds of
    the rank at ``end`` on local resources. ``forwarded``: counted per copy that a two-hop path makes on its NVLink hop,
    and "nvlink" then leaves out the copy that stays on the forwarder. ``efficiency``: reachable share of the line rate.
    """

    resource: str
    per_row: Num
    end: End = End.HOME
    forwarded: bool = False
    efficiency: float = 1.0


@dataclass(frozen=True, slots=True)
class Move:
    """Rows of one kind on one path. ``row_bytes``: payload of a row; ``back``: from the expert's rank to the token's."""

    rows: Rows
    path: Path
    row_bytes: Num
    loads: tuple[Load, ...]
    back: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """A piece of a kernel during which its moves run together.

    ``latencies``: (what, seconds) paid one after another before the moves. ``tail_s``: from a row's last byte leaving to
    its being usable. ``sharpness``: q in ``(sum load**q)**(1/q)``: how well the longest load hides the others (1: they
    add up, as when nothing overlaps; 20: a perfect maximum). ``floor_s``: a wait that runs beside the moves.
    ``posts``: the rank moves on once its own work is done; the network carries what it posted. ``crossings``: one-way trips
    over the network that it pays one after another.
    """

    name: str
    op: str
    waits: Join
    moves: tuple[Move, ...] = ()
    latencies: tuple[tuple[str, Num], ...] = ()
    tail_s: Num = 0.0
    floor_s: Num = 0.0
    sharpness: float = 20.0
    posts: bool = False
    crossings: int = 1
    stream: str = "communication"

    @property
    def latency_s(self) -> Num:
        total: Num = 0.0
        for _, seconds in self.latencies:
            total = total + seconds
        return total


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware facts a description needs, as rates: one rank's share of its node. SI units."""

    sms: int
    clock_hz: float
    nvlink_bytes_per_s: float  # one direction, raw
    nic_bytes_per_s: float  # one direction, line rate
    nic_messages_per_s: float
    hbm_bytes_per_s: float
    tensor_flops: dict[str, float]
    wire_latency_s: float  # NIC to NIC, one way
    nic_message_s: float  # one posted message on one queue pair
    nic_queue_pairs: float


@dataclass(frozen=True, slots=True)
class Work:
    """A stage of local work whose loads are known per rank: ``loads`` are (resource, seconds [rank] or one for all)."""

    name: str
    op: str
    waits: Join
    loads: tuple[tuple[str, Num], ...]
    latencies: tuple[tuple[str, Num], ...] = ()
    sharpness: float = 20.0
    floor_s: Num = 0.0
    tail_s: Num = 0.0
    stream: str = "compute"

    @property
    def latency_s(self) -> Num:
        return sum((seconds for _, seconds in self.latencies), 0.0)
