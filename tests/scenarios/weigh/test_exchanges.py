"""Which exchange: every protocol that can run, the winners and where they flip, and the reason of those that cannot."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.exchange_choice import Exchanges
from epicycle.scenarios.ask.scenario import load_layer
from epicycle.scenarios.weigh.exchanges import exchanges
from epicycle.sim.ep.protocol import all_protocols
from epicycle.sim.layer.closed_form import layer_seconds

Command = Callable[..., Any]
SCENARIO = "deepseek-v3-decode-ep32"


@pytest.fixture(scope="module")
def found() -> Exchanges:
    return exchanges(SCENARIO)


def test_every_protocol_is_priced_or_refused(found: Exchanges) -> None:
    named = [*(c.protocol for c in found.curves), *(r.protocol for r in found.refused)]
    assert sorted(named) == sorted(all_protocols())
    assert all(r.reason for r in found.refused)
    assert all(len(c.layer_us) == len(found.tokens) for c in found.curves)


def test_the_winners_are_the_fastest_that_anybody_timed(found: Exchanges) -> None:
    timed = [c for c in found.curves if c.measured]
    at = 0
    for winner in found.winners:
        while at < len(found.tokens) and found.tokens[at] <= winner.last_tokens:
            fastest = min(timed, key=lambda c: c.layer_us[at])
            assert fastest.layer_us[at] == next(c for c in timed if c.protocol == winner.protocol).layer_us[at]
            at += 1
        assert winner.ratio >= 1.0
    assert at == len(found.tokens)
    assert [w.protocol for w in found.winners] == ["low-latency", "elastic"]


def test_a_curve_is_the_layers_closed_form(found: Exchanges) -> None:
    import numpy as np

    question = load_layer(SCENARIO, ["deployment.protocol=elastic", "deployment.compare=[]"]).resolve()
    seconds = sum(layer_seconds(question, np.array([64.0, 4096.0])).values())
    curve = next(c for c in found.curves if c.protocol == "elastic")
    assert [curve.layer_us[found.tokens.index(t)] for t in (64, 4096)] == pytest.approx((seconds * 1e6).tolist())
    assert all(low < mid < high for low, mid, high in zip(curve.low90_us, curve.layer_us, curve.high90_us, strict=True))


def test_other_hardware_has_other_winners_and_refusals() -> None:
    mesh = exchanges(SCENARIO, ["cluster=mi355x-pollara", "deployment.ep=8"], (1, 4096))
    assert {"mori-ep", "mori-ep-v2"} <= {c.protocol for c in mesh.curves}
    assert {"hybrid-ep", "mega-moe"} <= {r.protocol for r in mesh.refused}
    one = exchanges(SCENARIO, ["deployment.ep=8"], (64,))
    assert "mega-moe" in {c.protocol for c in one.curves}
    assert len(one.winners) == 1


def test_a_bad_question_is_refused() -> None:
    with pytest.raises(BadInput, match="wanted numbers from 1"):
        exchanges(SCENARIO, (), (0,))
    with pytest.raises(BadInput, match="a layer is wanted"):
        exchanges("plan-deepseek-v3-h200")


def test_the_command_says_it_in_every_form(epicycle: Command, tmp_path: Path) -> None:
    forms = [f"--{form}={tmp_path / f'x.{form}'}" for form in ("json", "csv", "html")]
    done = epicycle("exchanges", SCENARIO, "--tokens", "1,128,4096", *forms)
    assert done.status == 0, done.err
    assert "where the winner flips" in done.out
    assert "cannot run: " in done.out
    body = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert (body["kind"], body["tokens"]) == ("exchanges", [1, 128, 4096])
    rows = list(csv.DictReader((tmp_path / "x.csv").open(encoding="utf-8")))
    assert len(rows) == 3 * len(body["curves"])
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "Where the winner flips" in page
    assert "exchange-curves" in page
    assert epicycle("exchanges", SCENARIO, "--tokens", "many").status == 2
