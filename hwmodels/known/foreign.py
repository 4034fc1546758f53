"""What of a cluster was never measured: a GPU or NIC other than the one its constants were fitted on, numbers that are assumed.

Each reason widens an interval as a borrowed relative does (`interval.BORROWED_SD`): the constants are taken over as they stand,
by an amount that nobody has measured on this hardware.
"""

from __future__ import annotations

from functools import lru_cache

from ..calibration import load_calibration, relatives
from ..catalog import load_cluster
from ..specs import SET_BY_USER, Cluster, Datasheet, Gpu

#: What times depend on; capacities, power and prices move no interval.
GPU_NUMBERS = ("sms", "clock", "tensor_flop_per_cycle_sm", "hbm_bandwidth", "nvlink_bandwidth")
PEAKS = ("tensor_flop_per_cycle_sm", "hbm_bandwidth", "nvlink_bandwidth")
#: The same of what lies between nodes.
NIC_NUMBERS = ("bandwidth", "efficiency", "message_rate", "message_cost", "latency", "queue_pairs")


def why_foreign(cluster: Cluster, across_nodes: bool, lender: str) -> tuple[str, ...]:
    """Why times on ``cluster`` are less certain than their constants say, one reason for each cause; empty where nothing is.

    ``across_nodes``: whether what is timed leaves an NVLink domain, so that NICs matter. ``lender``: the system whose
    measurements the constants are. Raises as `load_calibration`.
    """
    calibration = load_calibration(cluster.calibration)
    reference = _measured_on(calibration.cluster)
    gpu, nic = cluster.node.gpu, cluster.node.nic
    found = _other("GPU", gpu, reference.node.gpu, (*GPU_NUMBERS, *(("pcie_bandwidth",) if across_nodes else ())))
    if found or lender != cluster.calibration:
        found += _guessed(gpu)
    if across_nodes:
        found += _other("NIC", nic, reference.node.nic, NIC_NUMBERS)
        each, measured = (c.node.nics / c.node.gpus for c in (cluster, reference))
        if each != measured and nic.name == reference.node.nic.name:
            found.append(f"{each:g} NICs a GPU, measured with {measured:g}")
    if across_nodes and cluster.sick:
        found.append(f"taken to be sick: {', '.join(cluster.sick)}")
    if _crosses_makes(cluster.calibration, lender):
        found.append(f"{lender} is another maker's hardware")
    return tuple(found)


def _other(kind: str, mine: Datasheet, measured: Datasheet, numbers: tuple[str, ...]) -> list[str]:
    """One reason where ``mine`` is not the part that was measured, or was changed in a number that times depend on."""
    if mine.name != measured.name:
        return [f"{kind} {mine.label} in place of the measured {measured.name}"]
    return [f"{kind} {mine.label} was never measured"] if _changed(mine, numbers) else []


def _changed(mine: Datasheet, numbers: tuple[str, ...]) -> list[str]:
    return [field for field in numbers if mine.sources.get(field) == SET_BY_USER]


def _guessed(gpu: Gpu) -> list[str]:
    """One reason for all numbers of the GPU that are assumed. SMs and clock count where both are: peaks fix their product."""
    assumed = [field for field in PEAKS if gpu.grade(field) == "assumed"]
    assumed += ["sms", "clock"] if gpu.grade("sms") == gpu.grade("clock") == "assumed" else []
    return [f"{gpu.name}: {', '.join(field.replace('_', ' ') for field in assumed)} assumed"] if assumed else []


def _crosses_makes(system: str, lender: str) -> bool:
    """Whether a step from ``system`` to ``lender`` along its relatives changes the maker."""
    chain = relatives(system)
    before = chain[: chain.index(lender)] if lender in chain else chain
    return any(load_calibration(name).another_make for name in before)


@lru_cache(maxsize=64)
def _measured_on(name: str) -> Cluster:
    return load_cluster(name)
