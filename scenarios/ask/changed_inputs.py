"""In which inputs two scenarios of one kind differ, in the words of ``--set``, and one scenario with some of them applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from ...hwmodels.prices import load_prices
from .question_file import QuestionFile
from .search import Search

_FIRST = ("cluster", "model", "workload", "traffic", "slo")
_LAST = ("deployment", "seed")
_WIDTHS = ("tp", "dp", "pp", "ep", "count")
_OWNERS = {("cluster", "name"): "cluster", ("model", "preset"): "model"}
#: No such key: a preset's or a catalogue entry's own value holds.
ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One key: its path in the file, and its values in both (``ABSENT`` where a scenario does not have it)."""

    path: tuple[str, ...]
    before: Any
    after: Any

    @property
    def words(self) -> str:
        """The path as ``--set`` would have it."""
        if self.path in _OWNERS:
            return _OWNERS[self.path]
        return ".".join(key for place, key in enumerate(self.path) if not (place == 1 and key == "overrides"))


def written(scenario: QuestionFile) -> dict[str, Any]:
    """Everything ``scenario`` says, defaults filled in, but for its name, its description and its search."""
    return scenario.model_dump(mode="json", exclude={"name", "description", "search"})


def differences(a: QuestionFile, b: QuestionFile) -> list[Difference]:
    """Where ``b`` differs from ``a``: hardware first, then the model, what arrives, limits and prices, the deployment."""
    before, after = written(a), written(b)
    others = [key for key in before if key not in _FIRST + _LAST]
    order = [key for key in (*_FIRST, *others, *_LAST) if key in before]
    return [d for key in order for d in _differing((key,), before[key], after[key])]


def search_differences(a: QuestionFile, b: QuestionFile) -> list[Difference]:
    """Where what ``b`` looks for differs from what ``a`` looks for, defaults filled in; nothing where neither looks."""
    before, after = ((getattr(each, "search", None) or Search()).model_dump(mode="json") for each in (a, b))
    return list(_differing(("search",), before, after))


def together(found: Iterable[Difference]) -> list[tuple[Difference, ...]]:
    """``found`` in groups that are one change to whoever reads them: a worker's widths, a fabric, a mode and its pools."""
    groups: dict[str, list[Difference]] = {}
    for difference in found:
        groups.setdefault(_group(difference), []).append(difference)
    return [tuple(group) for group in groups.values()]


def applied(state: dict[str, Any], group: Iterable[Difference]) -> dict[str, Any]:
    """``state`` (as `written`) with every difference of ``group`` made."""
    state = deepcopy(state)
    for difference in group:
        owner = state
        for key in difference.path[:-1]:
            owner = owner[key]
        if difference.after is ABSENT:
            owner.pop(difference.path[-1], None)
        else:
            owner[difference.path[-1]] = deepcopy(difference.after)
    return state


def value_words(difference: Difference, value: Any, scenario: QuestionFile) -> str:
    """``value`` as text; an absent one is what the preset, the catalogue entry or the price file of ``scenario`` says."""
    if value is ABSENT:
        value = _own(difference.path, scenario)
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items() if inner is not None)
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)


def _differing(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _differing((*path, key), before.get(key, ABSENT), after.get(key, ABSENT))
    elif before is ABSENT or after is ABSENT or before != after:
        yield Difference(path, before, after)


def _group(difference: Difference) -> str:
    path = difference.path
    if path[0] == "deployment" and len(path) == 3 and path[2] in _WIDTHS:
        return f"{path[1]} widths"
    if path in (("deployment", "mode"), ("deployment", "prefill")):
        return "mode"
    if path[:2] in (("workload", "routing"), ("traffic", "routing")):
        return "routing"
    if path[:2] == ("cluster", "overrides") and path[2].startswith("fabric."):
        return "fabric"
    return difference.words


def _own(path: tuple[str, ...], scenario: QuestionFile) -> Any:
    """What an override would have replaced: the field of the looked-up record."""
    if path[0] == "prices":
        return {key: value for key, value, _ in load_prices().entries()}.get(".".join(path[1:]))
    if path[1:2] == ("overrides",):
        keys = ".".join(path[2:]).split(".")
        record: Any = scenario.found_cluster() if path[0] == "cluster" else scenario.found_model()
        for key in keys[:-1]:
            record = getattr(record, key) if isinstance(record, BaseModel) else record[key]
        if not isinstance(record, BaseModel):
            return record.get(keys[-1])
        value = getattr(record, keys[-1])
        return (
            value.name if isinstance(value, BaseModel) and hasattr(value, "name") else record.model_dump(mode="json")[keys[-1]]
        )
    return None
