"""A scenario file: one question, written down.

``traffic`` makes it one about a layer, ``workload`` one about serving, ``calculate`` arithmetic over named inputs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...hwmodels.errors import nearest
from .calculator_scenario import CalculatorScenario
from .document import Document, Plain, ScenarioError, parse_document, read_document
from .expectation import taken_off
from .gallery import gallery_path
from .layer_scenario import LayerScenario
from .refusal import refusal
from .serving_scenario import ServingScenario
from .set_path import rebased, with_changes

__all__ = [
    "CalculatorScenario",
    "LayerScenario",
    "Scenario",
    "ScenarioError",
    "ServingScenario",
    "Simulated",
    "Source",
    "changed",
    "load_layer",
    "load_scenario",
    "load_serving",
    "load_simulated",
    "read_scenario",
    "scenario_document",
]

Simulated = LayerScenario | ServingScenario
Scenario = Simulated | CalculatorScenario
#: Where a scenario comes from: a name of the gallery, a file ("-": standard input), its keys, or the record itself.
Source = str | Path | Mapping[str, Any] | Scenario

Kind = type[LayerScenario] | type[ServingScenario] | type[CalculatorScenario]

_KINDS: dict[str, Kind] = {"traffic": LayerScenario, "workload": ServingScenario, "calculate": CalculatorScenario}


def load_scenario(name_or_path: Source, sets: Iterable[str] = ()) -> Scenario:
    """The scenario of the gallery, or in the YAML file, with ``sets`` ("path=value") applied in order.

    A name that ends in .yaml or .yml, holds a slash, or is a Path is a file. Raises ScenarioError, UnknownName, or OSError.
    """
    return read_scenario(changed(scenario_document(name_or_path), sets))


def scenario_document(source: Source) -> Document:
    """What is written, before any change. Raises ScenarioError, UnknownName, or OSError."""
    if isinstance(source, LayerScenario | ServingScenario | CalculatorScenario):
        if source.document.data:
            return source.document
        return Document(source.name, source.model_dump(mode="json", exclude_unset=True), {})
    if isinstance(source, Mapping):
        return _keys(source)
    if str(source) == "-":
        return parse_document(sys.stdin.read(), "standard input")
    path = _path(source)
    return rebased(read_document(path), path.parent)


def changed(document: Document, sets: Iterable[str], option: str = "--set") -> Document:
    """``document`` with ``sets`` ("path=value", given by ``option``) applied in order. Raises ScenarioError."""
    return with_changes(document, sets, tuple(_kind(document).model_fields), option)


def read_scenario(document: Document) -> Scenario:
    """The scenario in ``document``. Raises ScenarioError."""
    document, _ = taken_off(document)
    kind = _kind(document)
    try:
        scenario = kind.model_validate(document.data)
    except ValidationError as error:
        raise refusal(error, document, kind) from None
    scenario.read_from(document)
    return scenario


def load_layer(name_or_path: Source, sets: Iterable[str] = ()) -> LayerScenario:
    """As `load_scenario`, of one layer. Raises ScenarioError for a serving scenario."""
    scenario = load_scenario(name_or_path, sets)
    if isinstance(scenario, LayerScenario):
        return scenario
    if isinstance(scenario, CalculatorScenario):
        raise _is_arithmetic(scenario)
    raise ScenarioError(
        f"{scenario.document.where(('workload',))}: {scenario.name} asks about serving (it has a workload), a layer is wanted, "
        "with traffic: see it with `epicycle plan`, sweep, compare or explain"
    )


def load_serving(name_or_path: Source, sets: Iterable[str] = ()) -> ServingScenario:
    """As `load_scenario`, of a deployment that serves requests. Raises ScenarioError for a layer."""
    scenario = load_scenario(name_or_path, sets)
    if isinstance(scenario, ServingScenario):
        return scenario
    if isinstance(scenario, CalculatorScenario):
        raise _is_arithmetic(scenario)
    raise ScenarioError(
        f"{scenario.document.where(('traffic',))}: {scenario.name} asks about one layer (it has traffic), serving is wanted, "
        "with a workload: play the layer with `epicycle simulate`"
    )


def load_simulated(name_or_path: Source, sets: Iterable[str] = ()) -> Simulated:
    """As `load_scenario`, of a layer or a deployment. Raises ScenarioError for a calculator."""
    scenario = load_scenario(name_or_path, sets)
    if isinstance(scenario, CalculatorScenario):
        raise _is_arithmetic(scenario)
    return scenario


def _is_arithmetic(scenario: CalculatorScenario) -> ScenarioError:
    return ScenarioError(
        f"{scenario.document.where(('calculate',))}: {scenario.name} is arithmetic (it has calculate): see it with "
        "`epicycle gallery` or `epicycle sweep`"
    )


def _keys(given: Mapping[str, Any]) -> Document:
    """A document of keys and values as a file would hold them."""
    try:
        data = json.loads(json.dumps(given, default=str, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"the given keys: wanted what a YAML file can hold: {error}") from None
    return Document("the given keys", data, {})


def _kind(document: Document) -> Kind:
    """The kind of scenario that the document's keys speak of."""
    data = document.data
    if not isinstance(data, dict):
        raise ScenarioError(
            f"{document.source}: wanted the keys name, model, cluster and either traffic and deployment, or workload, "
            f"got {_what(data)}"
        )
    both = [key for key in _KINDS if key in data]
    if "calculate" in both and len(both) > 1:
        raise ScenarioError(
            f"{document.where(('calculate',))}: both calculate and {both[0]}: keep one, a scenario is one question"
        )
    if len(both) == 2:
        raise ScenarioError(
            f"{document.where(('workload',))}: both workload (serving) and traffic (one layer): keep one of them, "
            "a scenario is one question"
        )
    if both:
        return _KINDS[both[0]]
    # Neither: a mistyped key, or one that only one kind has, still tells.
    only_serving = set(ServingScenario.model_fields) - set(LayerScenario.model_fields)
    for key in data:
        if key in only_serving:
            return ServingScenario
        if key not in LayerScenario.model_fields and (near := nearest(key, _KINDS)):
            return _KINDS[near]
    raise ScenarioError(
        f"{document.where(())}: neither workload (requests to serve) nor traffic (tokens of one layer) is there: "
        "add one of them"
    )


def _path(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        return Path(text)
    return gallery_path(text)


def _what(data: Plain) -> str:
    return {type(None): "an empty file", list: "a list"}.get(type(data), "a single value")
