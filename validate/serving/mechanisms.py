"""What engines do that kernels do not, switched off one by one: how much further off measured deployments and reports are.

Every switch is a setting that a user has, or a constant of the engine: nothing is fitted again without the mechanism. Field
reports judge where they lie beside the tables, else their mechanisms are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...hwmodels.backends import Backend, backend_names, load_backend, with_overrides
from ...scenarios.ask.scenario import load_scenario
from ...scenarios.weigh.evaluation_of import evaluation_of
from .rows import ServingRow, read_serving
from .scripts import PLAIN
from .shipped import TABLE
from .steady import Floats, Predicted, predict_serving

Engines = Mapping[str, Backend]


@dataclass(frozen=True, slots=True)
class Switched:
    """Median and mean error, per cent of the measured figure, with a mechanism and without. ``judged``: by which rows."""

    mechanism: str
    judged: str
    rows: int
    median_with: float
    median_without: float
    mean_with: float
    mean_without: float


@dataclass(frozen=True, slots=True)
class FieldSwitch:
    """``sets`` turn the mechanism off in the scenarios whose figures' ids begin with one of ``ids``."""

    mechanism: str
    ids: tuple[str, ...]
    sets: tuple[str, ...]


FIELD_SWITCHES = (
    FieldSwitch("groups that step together wait for the fullest", ("s07",), ("deployment.decode.balance=perfect",)),
    FieldSwitch("prompts share a step", ("s15_r1_h200_tp8_128",), ("deployment.decode.chunk_tokens=128",)),
    FieldSwitch("an fp8 cache is multiplied in fp8", ("s03", "s11_r1_gb300_pp4", "s07_qwen"), ("deployment.attention=bf16",)),
)


def switched(tables: Path) -> Iterator[Switched]:
    """Each mechanism on the rows that it concerns."""
    rows = read_serving(tables / TABLE)
    whole = predict_serving(rows)
    yield from _constants(rows, whole)
    plain = predict_serving([replace(row, script=PLAIN) for row in rows])
    mine = [i for i, row in enumerate(rows) if row.script != PLAIN]
    ttft = [row.ttft_s for row in rows]
    yield _switched("when requests are taken up, by the suite's scripts", "TTFT", ttft, whole.ttft_s, plain.ttft_s, mine)
    if (field := tables.parent / "field" / "measured.csv").is_file():
        yield from (found for switch in FIELD_SWITCHES if (found := _field(field, switch)) is not None)


def _constants(rows: Sequence[ServingRow], whole: Predicted) -> Iterator[Switched]:
    tpot, ttft = [row.tpot_s for row in rows], [row.ttft_s for row in rows]

    def without(change: Callable[[Backend], Backend]) -> Predicted:
        return predict_serving(rows, {name: change(load_backend(name)) for name in backend_names()})

    even = without(lambda b: b.model_copy(update={"expert_spread": 0.0}))
    apart = [i for i, row in enumerate(rows) if row.decode.ep > 1 and row.decode.dp > 1]
    yield _switched("experts are uneven where nothing balances them", "TPOT", tpot, whole.tpot_s, even.tpot_s, apart)
    drafting = [i for i, row in enumerate(rows) if row.drafts]
    free = without(lambda b: with_overrides(b, {"draft": "0 us"}))
    yield _switched("drafts run one after another, each launched", "TPOT", tpot, whole.tpot_s, free.tpot_s, drafting)
    everything = list(range(len(rows)))
    at_once = without(lambda b: with_overrides(b, {"first_token": "0 us", "first_steps": 0.0, "handover": "0 us"}))
    yield _switched("a server, and some steps, before a first token", "TTFT", ttft, whole.ttft_s, at_once.ttft_s, everything)


def _switched(mechanism: str, judged: str, measured: Sequence[float], on: Floats, off: Floats, at: Sequence[int]) -> Switched:
    truth = np.asarray(measured)[at]
    errors = [100.0 * np.abs(np.asarray(found)[at] / truth - 1.0) for found in (on, off)]
    medians, means = ([float(f(e)) for e in errors] for f in (np.median, np.mean))
    return Switched(mechanism, judged, len(truth), *medians, *means)


def _field(path: Path, switch: FieldSwitch) -> Switched | None:
    """Figures that count, with the scenario as it is and with the switch set."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = [r for r in csv.DictReader(file) if r["counts"] == "yes" and r["id"].startswith(switch.ids)]
    if not records:
        return None
    measured = [float(r["measured"]) for r in records]
    found = [np.array([_metric(path.parent / r["scenario"], sets, r["metric"]) for r in records]) for sets in ((), switch.sets)]
    judged = "field: " + ", ".join(switch.ids)
    return _switched(switch.mechanism, judged, measured, found[0], found[1], range(len(records)))


def _metric(scenario: Path, sets: Sequence[str], name: str) -> float:
    answer = evaluation_of(load_scenario(scenario, sets))
    return next(m.value for m in answer.metrics if m.key == name)
