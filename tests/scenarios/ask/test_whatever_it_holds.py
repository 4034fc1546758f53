"""Whatever a scenario file holds, it is answered or refused in one line that names what, and never with a traceback."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import yaml

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask.ending import one_line
from epicycle.scenarios.ask.layer_scenario import LayerScenario
from epicycle.scenarios.ask.scenario import ServingScenario, load_simulated
from epicycle.scenarios.weigh.evaluation_of import evaluation_of

GALLERY = Path(__file__).parents[3] / "scenarios" / "gallery"
SERVED = ("serve-deepseek-v3-h200", "serve-deepseek-v3-fat-tree", "serve-deepseek-v3-h100-ep72", "plan-deepseek-v3-h200")
PLAYED = ("ep-anatomy", "deepseek-v3-decode-ep32", "static-collectives-ep16", "gb200-nvl72-one-sided-ep16")
ODD: tuple[Any, ...] = (
    *(None, 0, -1, 1, 7, 10**30, 1e308, float("inf"), float("nan"), True, "", "8", "x" * 300, "8 /s", "5 parsecs", "-1 ms"),
    *("0 s", [], [0], {}, {"a": []}, ["x"] * 30, 3.5, "\u0000", "/dev/null", "..", "${HOME}", {"name": 3}, [[[]]], "uniform"),
)


def tables_of(value: Any) -> list[dict[str, Any]]:
    """Every object of a document, the document first."""
    if not isinstance(value, dict):
        return []
    return [value, *(inner for each in value.values() for inner in tables_of(each))]


def changed(document: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """A few values, keys or whole sections changed."""
    found = copy.deepcopy(document)
    for _ in range(draw.randint(1, 3)):
        table = draw.choice([each for each in tables_of(found) if each])
        key = draw.choice(sorted(table, key=str))
        chance = draw.random()
        if chance < 0.7:
            table[key] = copy.deepcopy(draw.choice(ODD))
        elif chance < 0.8:
            del table[key]
        elif chance < 0.9:
            table[f"{key}{draw.choice(('s', '_', ' ', '2'))}"] = table.pop(key)
        else:
            table[key] = copy.deepcopy(draw.choice(tables_of(found)))
        if not found:
            break
    return found


def test_no_scenario_whatever_it_holds_gives_a_traceback(tmp_path: Path, long: bool) -> None:
    answered = refused = 0
    for seed in range(2500 if long else 150):
        draw = random.Random(seed)
        # One in ten plays a layer, which takes longest.
        name = draw.choice(PLAYED if draw.random() < 0.1 else SERVED)
        document = yaml.safe_load((GALLERY / f"{name}.yaml").read_text("utf-8"))
        path = tmp_path / "asked.yaml"
        path.write_text(yaml.safe_dump(changed(document, draw), allow_unicode=True), "utf-8")
        try:
            asked = load_simulated(path)
            if isinstance(asked, LayerScenario) or asked.deployment is None:
                asked.resolve()  # playing and planning are long; what they ask is checked here
            elif isinstance(asked, ServingScenario):
                evaluation_of(asked.model_copy(update={"requests": None, "faults": None}))
            answered += 1
        except BadInput as refusal:
            refused += 1
            said = one_line(str(refusal))  # as the command says it
            assert 0 < len(said) < 400, (seed, said)
    assert answered and refused
