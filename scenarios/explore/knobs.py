"""What of a scenario can be moved: each key with its values, read from the scenario, and what is asked when they are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...hwmodels.catalog import names
from ...sim.ep.protocol import all_protocols
from ...sim.inputs.serving import Serving
from ..ask.scenario import ServingScenario


@dataclass(frozen=True, slots=True)
class Knob:
    """A key (as ``--set`` writes it), its words, its values as text, and the one that holds now. ``slides``: in an order.

    The value "" leaves the key as it is: the hardware's own GPU, no limit.
    """

    path: str
    words: str
    values: tuple[str, ...]
    now: str
    slides: bool = True


_BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024)
_NIC_RATES = ("12.5 GB/s", "25 GB/s", "50 GB/s", "75 GB/s", "100 GB/s", "150 GB/s", "200 GB/s")
_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
_TIMES = ("10 ms", "15 ms", "20 ms", "25 ms", "30 ms", "40 ms", "50 ms", "60 ms", "80 ms", "100 ms", "150 ms", "200 ms")
_FIRSTS = ("100 ms", "200 ms", "300 ms", "500 ms", "1000 ms", "1500 ms", "2000 ms", "3000 ms", "5000 ms", "10000 ms")


def knobs(scenario: ServingScenario) -> tuple[Knob, ...]:
    """The knobs of ``scenario``, which has a deployment."""
    serving, load = scenario.deployment or Serving(), scenario.workload
    decode, cluster = serving.decode, scenario.found_cluster()
    gpus = scenario.cluster.name
    found = [
        Knob("cluster", "cluster", tuple(dict.fromkeys((gpus, *names("clusters")))), gpus, slides=False),
        Knob("cluster.node.gpu", "GPU, in place of the cluster's own", ("", *names("gpus")), "", slides=False),
        Knob("cluster.node.nic", "NIC, in place of the cluster's own", ("", *names("nics")), "", slides=False),
        Knob("cluster.node.nic.bandwidth", "NIC rate, one way", ("", *_NIC_RATES), ""),
        _numbers("cluster.nodes", "nodes", (1, 2, 3, 4, 6, 8, 9, 10, 12, 16, 24, 32, 48, 64), cluster.nodes),
        _numbers(
            "deployment.decode.ep",
            "decode: expert-parallel ranks (dp with it)",
            (8, 16, 24, 32, 48, 64, 72, 96, 128),
            decode.ep,
        ),
        _numbers("deployment.decode.batch", "decode: sequences of an attention group", _BATCHES, decode.batch or 128),
        _numbers(
            "deployment.decode.redundant_experts", "decode: redundant experts", (0, 8, 16, 32, 64), decode.redundant_experts
        ),
        Knob("deployment.decode.protocol", "decode: protocol", tuple(all_protocols()), decode.protocol, slides=False),
        Knob(
            "deployment.decode.overlap",
            "decode: two-batch overlap",
            ("false", "true"),
            str(decode.overlap).lower(),
            slides=False,
        ),
        _numbers("workload.input_tokens", "tokens in", (256, 512, 1000, 2000, 4000, 8000, 16000, 32000), load.input_tokens),
        _numbers("workload.output_tokens", "tokens out", (16, 64, 100, 256, 500, 1000, 2000, 4000), load.output_tokens),
        _texts("slo.tpot", "limit on the time per output token", _TIMES, scenario.slo.tpot),
        _texts("slo.ttft", "limit on the time to first token", _FIRSTS, scenario.slo.ttft),
    ]
    if "decode" in serving.workers:
        found.append(_numbers("deployment.decode.count", "decode: workers", _COUNTS, decode.count))
    if serving.prefill is not None:
        found.append(_numbers("deployment.prefill.count", "prefill: workers", _COUNTS, serving.prefill.count))
    if load.rate is None:
        each = tuple(1 << n for n in range(4, 16))
        flying = ("", *map(str, each)) if load.concurrency is None else map(str, sorted({*each, load.concurrency}))
        found.append(Knob("workload.concurrency", "requests in flight", tuple(flying), str(load.concurrency or "")))
    else:
        per_s = (1, 2, 5, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200)
        now = f"{load.rate:g} /s"
        rates = sorted({*(f"{n} /s" for n in per_s), now}, key=lambda text: float(text.split()[0]))
        found.append(Knob("workload.rate", "requests a second", tuple(rates), now))
    return tuple(found)


def _numbers(path: str, words: str, values: tuple[int, ...], now: int) -> Knob:
    return Knob(path, words, tuple(map(str, sorted({*values, now}))), str(now))


def _texts(path: str, words: str, values: tuple[str, ...], now: float | None) -> Knob:
    here = f"{now * 1e3:g} ms" if now is not None else ""
    return Knob(path, words, (*(("",) if now is None else ()), *sorted({*values, *([here] if here else [])}, key=_ms)), here)


def _ms(text: str) -> float:
    return float(text.split()[0])


def sets_of(found: tuple[Knob, ...], chosen: Mapping[str, str]) -> list[str]:
    """``--set`` texts of the knobs that were moved. Width follows ep: a decode worker's dp is ep over its tp."""
    sets = []
    for knob in found:
        value = chosen.get(knob.path, knob.now)
        if value == knob.now or not value:
            continue
        sets.append(f"{knob.path}={value}")
        if knob.path == "deployment.decode.ep":
            sets.append(f"deployment.decode.dp={value}")
            sets.append("deployment.decode.tp=1")
    return sets
