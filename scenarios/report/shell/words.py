"""The report's words and colours: what each bound, op and medium is called, in one place."""

from __future__ import annotations

from collections.abc import Iterable

from .page import Html, safe

# bound or link kind -> (plain words, colour of page.css). One hue a family: NVLink blue, NIC copper, SM green, waits grey.
BOUNDS: dict[str, tuple[str, str]] = {
    "nvlink_tx": ("the sender's NVLink port, GPU to switch", "var(--nvlink)"),
    "nvlink_rx": ("the receiver's NVLink port, switch to GPU", "var(--nvlink-2)"),
    "nvlink": ("NVLink bandwidth", "var(--nvlink)"),
    "nvswitch": ("the NVSwitch inside a node", "var(--nvlink-3)"),
    "nic_tx": ("the sender's NIC line rate", "var(--nic)"),
    "nic_rx": ("the receiver's NIC line rate (incast: several senders share it)", "var(--nic-2)"),
    "nic_msg": ("the NIC's message engine: work requests per second, whatever their size", "var(--nic-3)"),
    "queue_pair": ("one queue pair posting its messages one after another", "var(--nic-4)"),
    "fabric_up": ("a leaf's uplinks to the spine, shared by its nodes", "var(--fabric)"),
    "fabric_down": ("the spine's links down to a leaf, shared by its nodes", "var(--fabric)"),
    "fabric": ("a switch uplink between NICs, shared by several nodes", "var(--fabric)"),
    "spine": ("a spine uplink, shared by several nodes", "var(--fabric)"),
    "copy": ("the SMs that copy rows for the communication kernel", "var(--sm-3)"),
    "sm_send": ("the SMs of the sending kernel: reading, casting and posting rows", "var(--sm-2)"),
    "sm_receive": ("the SMs that drain received rows into their slots", "var(--sm-3)"),
    "sm_forward": ("the SMs that forward rows from RDMA buffers to NVLink peers", "var(--sm)"),
    "sm_copy": ("the SMs that pack, permute or reduce rows within the rank", "var(--sm-3)"),
    "sm": ("the SMs: too few, or the last wave not full", "var(--sm-2)"),
    "sms": ("the SMs: too few, or the last wave not full", "var(--sm-2)"),
    "tensor": ("tensor-core throughput of the grouped GEMM", "var(--sm)"),
    "hbm": ("HBM bandwidth: reading expert weights and activations", "var(--sm-2)"),
    "l2": ("L2 cache bandwidth", "var(--sm-3)"),
    "pcie": ("the PCIe link between GPU and NIC or host", "var(--nic-4)"),
    "ring": ("the depth of a ring queue: the sender waits for the receiver to free slots", "var(--wait)"),
    "flow_cap": ("a flow's own limit (ring depth over credit round trip), no shared resource", "var(--wait)"),
    "cap": ("a flow's own limit (ring depth over credit round trip), no shared resource", "var(--wait)"),
    "latency": ("latency that no bandwidth shortens: propagation, launch, polling", "var(--wait-2)"),
    "launch": ("launching kernels", "var(--wait-2)"),
    "barrier": ("a barrier: waiting for the slowest rank to arrive", "var(--wait-3)"),
    "host": ("the CPU: reading counts, allocating the exact buffer, launching", "var(--wait)"),
    "wait": ("waiting for another rank or stage", "var(--wait-3)"),
    "skew": ("ranks that started later than others", "var(--wait-3)"),
    "idle": ("nothing running on the path", "var(--wait-3)"),
}
OPS: dict[str, tuple[str, str]] = {
    "notify": ("count exchange", "var(--op-notify)"),
    "dispatch": ("dispatch", "var(--op-dispatch)"),
    "compute": ("compute", "var(--op-compute)"),
    "combine_notify": ("combine notify", "var(--op-combine-notify)"),
    "combine": ("combine", "var(--op-combine)"),
}
MEDIA: dict[str, tuple[str, str]] = {
    "nvlink": ("NVLink", "var(--nvlink)"),
    "rdma": ("RDMA", "var(--nic)"),
    "local": ("within the rank", "var(--sm)"),
}
PROTOCOL_COLOURS = ("var(--first)", "var(--second)", "var(--third)", "var(--fourth)")


def kind_of(bound: str) -> str:
    """The kind of a bound: ``"nic_tx[3]"`` is a ``nic_tx``."""
    return bound.split("[", 1)[0].strip().lower()


def bound_words(bound: str) -> str:
    """What ``bound`` means in plain words; an unknown one explains itself as best its name can."""
    return _known(bound)[0]


def bound_colour(bound: str) -> str:
    return _known(bound)[1]


def _known(bound: str) -> tuple[str, str]:
    kind = kind_of(bound)
    if kind in BOUNDS:
        return BOUNDS[kind]
    if " " in kind:  # protocols name their latencies in words
        return "a fixed cost of the protocol, whatever the bytes", "var(--wait-2)"
    return "named by the protocol; not in this report's glossary", "var(--op-other)"


def op_words(op: str) -> str:
    return OPS[op][0] if op in OPS else op.replace("_", " ")


def op_colour(op: str) -> str:
    return OPS[op][1] if op in OPS else "var(--op-other)"


def medium_words(medium: str) -> str:
    return MEDIA[medium][0] if medium in MEDIA else medium


def medium_colour(medium: str) -> str:
    return MEDIA[medium][1] if medium in MEDIA else "var(--op-other)"


def ops_in_order(ops: Iterable[str]) -> list[str]:
    """``ops`` without repetition, the known ones in the layer's order, then the others as they came."""
    seen = dict.fromkeys(ops)
    return [op for op in OPS if op in seen] + [op for op in seen if op not in OPS]


def is_pale(colour: str) -> bool:
    """Whether text on ``colour`` takes the ink of pale grounds."""
    return colour.endswith(("-2)", "-3)", "-4)")) and colour != "var(--nic-3)"


def key(colour: str) -> Html:
    """A small square of ``colour`` (from this module, never from a scenario)."""
    return Html(f'<span class=key style="background:{colour}"></span>')


def legend(entries: Iterable[tuple[str, str]]) -> Html:
    """A legend line of (words, colour)."""
    return Html("<div class=legend>" + "".join(f"<span>{key(c)}{safe(w)}</span>" for w, c in entries) + "</div>")
