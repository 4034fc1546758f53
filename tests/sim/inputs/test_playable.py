"""What would not fit into the machine is refused before it is built; a layer alone leaves the model's weights out."""

from __future__ import annotations

from typing import Any

import pytest

from epicycle.scenarios.ask.scenario import load_layer
from epicycle.sim.inputs import playable
from epicycle.sim.inputs.feasible import Unanswerable
from epicycle.sim.inputs.playable import can_be_played, machine_bytes
from epicycle.sim.layer.layer import simulate

GIB = 2.0**30
KEY = ("deployment", "protocol")


@pytest.mark.parametrize(
    ("protocol", "ep", "gib", "fits"),
    [
        ("low-latency", 256, 0.4, True),
        ("low-latency", 1024, 0.7, False),
        ("low-latency", 1024, 1.2, True),
        ("low-latency", 2048, 1.6, False),
        ("high-throughput", 1024, 1.2, True),
    ],
)
def test_the_size_is_known_beforehand(monkeypatch: Any, protocol: str, ep: int, gib: float, fits: bool) -> None:
    """Low latency took 0.2 GiB at EP256, 0.7 at 1,024 and 1.7 at 2,048; at 4,096 with a token a rank 2.2."""
    monkeypatch.setattr(playable, "machine_bytes", lambda: gib * GIB)
    if fits:
        can_be_played(protocol, ep, 1024, KEY)
        return
    with pytest.raises(Unanswerable, match=rf"playing {protocol} on {ep} ranks takes about .* GiB.*use deployment\.ep of"):
        can_be_played(protocol, ep, 1024, KEY)


def test_the_lever_fits(monkeypatch: Any) -> None:
    monkeypatch.setattr(playable, "machine_bytes", lambda: 1.0 * GIB)
    with pytest.raises(Unanswerable) as refusal:
        can_be_played("low-latency", 2048, 1024, KEY)
    can_be_played("low-latency", int(str(refusal.value).split("at most ")[1].split(",")[0]), 1024, KEY)
    can_be_played("low-latency", 2048, 8, KEY)  # few tokens have few destinations


def test_a_machine_has_memory() -> None:
    assert machine_bytes() > 2.0**28


DEEPEP_TEST = ["deployment.ep=8", "cluster=h100-cx7", "cluster.nodes=1", "deployment.compare=[]"]


def test_deepeps_own_test_runs_on_80_gb_without_the_model() -> None:
    with pytest.raises(Unanswerable, match=r"memory does not fit .*or ask for the layer alone \(memory=ignore\)"):
        simulate(load_layer("deepseek-v3-decode-ep32", DEEPEP_TEST).resolve())
    answer = simulate(load_layer("deepseek-v3-decode-ep32", [*DEEPEP_TEST, "memory=ignore"]).resolve())
    (layer,) = answer.layers
    assert not any("weights" in item.name for item in layer.memory)
    assert any("left out of the memory" in note for note in layer.notes)


def test_leaving_memory_out_changes_no_time() -> None:
    sets = ["deployment.compare=[]"]
    with_, without = (
        simulate(load_layer("deepseek-v3-decode-ep32", [*sets, f"memory={m}"]).resolve()) for m in ("check", "ignore")
    )
    assert with_.layers[0].makespan_ps == without.layers[0].makespan_ps


def test_what_the_layer_itself_holds_is_still_checked() -> None:
    small = ["cluster.node.gpu.hbm_capacity=4 GiB", "memory=ignore", "deployment.compare=[]"]
    with pytest.raises(Unanswerable, match=r"memory does not fit .* the largest part is"):
        simulate(load_layer("deepseek-v3-decode-ep32", small).resolve())
