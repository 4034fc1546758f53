"""A calculator's answer in the records of every other: its figures as metrics, its inputs with their sources."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from ... import __version__
from ...hwmodels.errors import BadInput, nearest
from ...sim.layer.result import InputRow
from ..answer.evaluation import Evaluation, Metric
from ..ask.calculator_scenario import CalculatorScenario
from ..ask.document import ScenarioError
from .calculator import Calculator
from .kinds import KINDS


def answer_of(scenario: CalculatorScenario) -> Evaluation:
    """The figures of ``scenario``. Raises ScenarioError naming file, line and key."""
    calculator = calculator_of(scenario)
    try:
        figures = tuple(calculator.figures())
    except BadInput as error:
        raise scenario.error_at(("calculate",), error) from None
    metrics = tuple(Metric(f.key, f.words, f.unit, float(f.value)) for f in figures)
    first = metrics[0]
    return Evaluation(
        name=scenario.name,
        description=" ".join(scenario.description.split()),
        sentence=f"{first.words}: {first.value:.6g} {first.unit}".rstrip(),
        model="",
        cluster="",
        gpus=0,
        serving=None,
        metrics=metrics,
        pools=(),
        cost={},
        limits=(),
        inputs=tuple(_inputs(calculator)),
        version=__version__,
    )


def calculator_of(scenario: CalculatorScenario) -> Calculator:
    """The record of the kind that ``calculate`` names. Raises ScenarioError."""
    told = scenario.calculate
    kind = told.get("kind")
    if kind not in KINDS:
        close = nearest(str(kind), KINDS)
        hint = f"did you mean {close!r}?" if close else f"there are {', '.join(sorted(KINDS))}"
        raise ScenarioError(f"{scenario.document.where(('calculate',))}: calculate.kind: no such kind {kind!r}: {hint}")
    adapter: TypeAdapter[Calculator] = TypeAdapter(KINDS[kind])
    try:
        return adapter.validate_python(told)
    except ValidationError as error:
        # A mistyped key goes before what it left missing.
        first = min(error.errors(include_url=False), key=lambda d: (d["type"] != "extra_forbidden", d["type"] == "missing"))
        path = ("calculate", *first["loc"])
        dotted = ".".join(str(part) for part in path)
        known = ", ".join(name for name in KINDS[kind].model_fields)
        said = {"extra_forbidden": f"no such input, there are {known}", "missing": "is missing"}.get(
            first["type"], first["msg"].removeprefix("Value error, ")
        )
        place = scenario.document.where(path if path in scenario.document.places else ("calculate",))
        raise ScenarioError(f"{place}: {dotted}: {said}") from None
    except BadInput as error:
        raise scenario.error_at(("calculate",), error) from None


def _inputs(calculator: Calculator) -> list[InputRow]:
    told: dict[str, Any] = calculator.model_dump(mode="json", exclude={"kind", "sources"})
    rest = calculator.sources.get("*", "")
    return [
        InputRow(
            "calculate",
            name,
            str(value),
            calculator.sources.get(name, rest) if name in calculator.model_fields_set else "default",
        )
        for name, value in told.items()
    ]
