"""The closed form of many layers at once is that of each layer alone."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask.scenario import load_layer
from epicycle.sim.layer.closed_form import layer_seconds
from epicycle.sim.layer.layer import simulate

SETS = (
    ("deepseek-v3-decode-ep32", ["deployment.max_tokens=64"]),
    ("deepseek-v3-decode-ep32", ["deployment.protocol=high-throughput", "deployment.redundant_experts=32"]),
    ("deepseek-v3-decode-ep32", ["deployment.protocol=elastic", "traffic.routing.kind=balanced"]),
    ("gb200-nvl72-one-sided-ep16", []),
    ("static-collectives-ep16", []),
)


@pytest.mark.parametrize(("name", "sets"), SETS)
def test_it_is_what_a_played_layer_shows_beside_its_events(name: str, sets: list[str]) -> None:
    tokens = np.array([1.0, 16.0, 64.0, 65.0, 100.0])
    question = load_layer(name, [*sets, "deployment.compare=[]"]).resolve()
    table = layer_seconds(question, tokens)
    for i, count in enumerate(tokens):
        shown = simulate(load_layer(name, [*sets, "deployment.compare=[]", f"traffic.tokens_per_rank={count:.0f}"]).resolve())
        closed = shown.layers[0].closed_form_us
        assert {op: 1e6 * seconds[i] for op, seconds in table.items()} == pytest.approx(closed, rel=1e-9), count


def test_a_router_with_favourites_has_no_closed_form() -> None:
    with pytest.raises(BadInput, match="power-law"):
        layer_seconds(load_layer("deepseek-v3-power-law-replicas").resolve(), np.array([1.0]))
