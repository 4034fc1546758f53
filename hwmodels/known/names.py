"""How tables and people call hardware: from "H200 p5en" or "MI355X+AINIC" to a GPU and a cluster of the catalogue.

A name is read whole: a GPU that the catalogue does not have is unknown, and never the nearest one. What is unknown is said with
the nearest entry and with how to add one.
"""

from __future__ import annotations

import re
from functools import cache

from .. import catalog
from ..calibration import calibrated_systems, load_calibration
from ..errors import BadInput, nearest
from ..specs import Cluster

#: As words of a name, the more telling first -> the GPU. Word boundaries keep GB200 from being a B200.
_GPUS: tuple[tuple[str, str], ...] = (
    (r"gb300", "gb300"),
    (r"gb200", "gb200"),
    (r"b300|p6-b300", "b300-sxm"),
    (r"b200|p6-b200|sm_?100", "b200-sxm"),
    (r"h100.pcie", "h100-pcie"),
    (r"h20-?3e", "h20-3e"),
    (r"h20", "h20-sxm"),
    (r"h800", "h800-sxm"),
    (r"h200|p5en", "h200-sxm"),
    (r"h100|p5", "h100-sxm"),
    (r"a100", "a100-sxm"),
    (r"l40s", "l40s"),
    (r"l4", "l4"),
    (r"rtx.?pro.?6000", "rtx-pro-6000"),
    (r"rtx.?3090|3090", "rtx-3090"),
    (r"vera.?rubin|rubin|vr.?nvl72|vr200", "rubin"),
    (r"mi300x", "mi300x"),
    (r"mi308x", "mi308x"),
    (r"mi325x", "mi325x"),
    (r"mi355x", "mi355x"),
    (r"mi455x", "mi455x"),
    (r"trainium.?2|trn2", "trainium2"),
    (r"trainium.?3|trn3", "trainium3"),
    (r"tpu.?v?7x?|ironwood", "tpu7x"),
    (r"(ascend.?)?910c", "ascend-910c"),
)
#: Words that make of a GPU another one, which no entry above is.
_OTHERWISE = re.compile(r"\b(nvl|pcie|max-?q|workstation|mig|slice|ultra)\b")
#: NIC families by the words of a fabric -> how their catalogue names begin.
_NICS: tuple[tuple[str, str], ...] = (
    (r"\befa\b", "aws-efa"),
    (r"\b(cx-?9|connectx-?9)\b", "connectx9"),
    (r"\b(cx-?8|connectx-?8)\b", "connectx8"),
    (r"\b(cx-?7|connectx-?7)\b", "connectx7"),
    (r"\b(pollara|ainic)\b", "pollara"),
    (r"\bthor-?2\b", "thor2"),
)
#: Fabrics that name no NIC: links inside a domain, a way of posting, or a network by its kind.
_NO_NIC = re.compile(
    r"^$|nvlink|mnnvl|xgmi|infinity fabric|pcie|ibgda|ibrc|\bib\b|infiniband|roce|ethernet|deepep|\bep\d+|not stated"
)
_HOW_TO_ADD = "hardware of your own is a file: docs/scenarios.md"


class UnknownHardware(BadInput):
    """Hardware by a name that is nobody's here."""


def gpu_called(name: str) -> str:
    """The catalogue's GPU that ``name`` means. Raises UnknownHardware with the nearest entry and how to add one."""
    plain = " ".join(name.lower().replace("_", "-").split())
    found = next((gpu for words, gpu in _GPUS if re.search(rf"(?<![a-z0-9])(?:{words})(?![a-z0-9])", plain)), None)
    if found is None and plain in catalog.names("gpus"):
        found = plain
    if found is None or (found != "h100-pcie" and _OTHERWISE.search(plain.replace("rtx-pro", ""))):
        near = found or nearest(plain, catalog.names("gpus"))
        hint = f"the nearest is {near}" if near else "see `epicycle catalog gpus`"
        raise UnknownHardware(f"no GPU of the catalogue is called {name!r}: {hint}; {_HOW_TO_ADD}")
    return found


@cache
def system_called(name: str) -> str:
    """The calibrated system that ``name`` means: its own name, or that of the GPU. Raises UnknownHardware."""
    plain = name.strip().lower().replace("-", "_")
    if plain in calibrated_systems():
        return plain
    gpu = gpu_called(name)
    for system in calibrated_systems():
        if catalog.load_cluster(load_calibration(system).cluster).node.gpu.name == gpu:
            return system
    raise UnknownHardware(f"no calibration speaks of {gpu} ({name!r}): {_HOW_TO_ADD}")


def why_unknown(system: str) -> str:
    """Why a measurement table's ``system``, which is no calibrated one's name, is not predicted, and what would do."""
    try:
        return f"unknown system {system}: write {system_called(system)}, as this hardware is called here"
    except UnknownHardware as error:
        return f"unknown system {system}: {error}"


@cache
def cluster_called(gpu: str, fabric: str, across_nodes: bool, beside: str = "") -> Cluster:
    """The cluster of that GPU and NIC; the GPU's usual cluster where no NIC is named, or none matters.

    ``fabric``: the NIC in words; ``beside``: what else may name it. Raises UnknownHardware for a GPU or, if the exchange leaves
    the node, a NIC that the catalogue does not have.
    """
    usual = catalog.load_cluster(load_calibration(system_called(gpu)).cluster)
    plain = fabric.lower()
    family = next((begins for words, begins in _NICS if re.search(words, f"{plain} {beside.lower()}")), "")
    if not family:
        if across_nodes and not _NO_NIC.search(plain.strip()):
            near = nearest(plain, catalog.names("nics"))
            hint = f"the nearest is {near}" if near else "see `epicycle catalog nics`"
            raise UnknownHardware(f"no NIC of the catalogue is called {fabric!r}: {hint}; {_HOW_TO_ADD}")
        return usual
    if usual.node.nic.name.startswith(family):
        return usual
    for name in catalog.names("clusters"):
        other = catalog.load_cluster(name)
        same = other.node.gpu.name == usual.node.gpu.name and other.fabric.kind == usual.fabric.kind
        if same and other.node.nic.name.startswith(family):
            return other
    nics = [name for name in catalog.names("nics") if name.startswith(family)]
    if family == "aws-efa" and across_nodes:
        raise UnknownHardware(f"no instance of the catalogue has {usual.node.gpu.name} with EFA: {_HOW_TO_ADD}")
    return catalog.load_cluster(usual.name, overrides={"node.nic": nics[0]}) if family != "aws-efa" else usual
