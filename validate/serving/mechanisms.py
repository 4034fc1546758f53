"""What engines do that kernels do not, switched off one by one: how much further off measured deployments and reports are.

Every switch is a setting that a user has, or a constant of the engine: nothing is fitted again without the mechanism. Field
reports judge where they lie beside the tables, else their mechanisms are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...hwmodels.backends import Backend, backend_names, load_backend, with_overrides
from ...scenarios.ask.scenario import load_scenario
from ...scenarios.weigh.evaluation_of import evaluation_of
from ...sim.step.tensor import carried_whole
from .evidence import EVIDENCE
from .production import RUNS, predict_run
from .rows import ServingRow, read_serving
from .scripts import PLAIN
from .shipped import TABLE
from .steady import Floats, Predicted, backend_of, balance_of, predict_serving

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

    @property
    def evidence(self) -> str:
        """Why it is believed in. Raises KeyError of a mechanism without any."""
        return EVIDENCE[self.mechanism]


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
#: Efficiencies taken apart into a share of the tensor peak and issue cycles, where a GPU lacks tensor throughput.
CARRIED = FieldSwitch("issue cycles are no share of a tensor peak", ("s03", "s04"), ())


def switched(tables: Path) -> Iterator[Switched]:
    """Each mechanism on the rows that it concerns."""
    rows = read_serving(tables / TABLE)
    whole = predict_serving(rows)
    yield from _constants(rows, whole)
    ttft = [row.ttft_s for row in rows]
    plain = predict_serving([replace(row, script=PLAIN) for row in rows])
    mine = [i for i, row in enumerate(rows) if row.script != PLAIN]
    yield _switched("when requests are taken up, by the suite's scripts", "TTFT", ttft, whole.ttft_s, plain.ttft_s, mine)
    balanced = [i for i, row in enumerate(rows) if balance_of(row.backend) == "wait" and row.decode.dp > 1 and not row.prefill]
    few = [rows[i] for i in balanced]
    at_once = predict_serving(few, held=False).ttft_s
    first = [ttft[i] for i in balanced], whole.ttft_s[balanced], at_once
    yield _switched("groups hold prompts back for each other", "TTFT", *first, range(len(few)))
    steady = predict_serving(rows, rounds=np.inf)
    everything = list(range(len(rows)))
    yield _switched("a closed loop begins with a burst", "TTFT", ttft, whole.ttft_s, steady.ttft_s, everything)
    yield from _production()
    if (field := tables.parent / "field" / "measured.csv").is_file():
        yield from (found for switch in FIELD_SWITCHES if (found := _field(field, switch)) is not None)
        if (found := _field(field, CARRIED, carried_whole())) is not None:
            yield found


@dataclass(frozen=True, slots=True)
class EngineSwitch:
    """A mechanism of an engine's constants: ``off`` takes it away. ``judged``: TPOT or TTFT; ``holds``: of which rows."""

    mechanism: str
    judged: str
    off: Callable[[Backend], Backend]
    holds: Callable[[ServingRow], object]


def _without(**changes: object) -> Callable[[Backend], Backend]:
    return lambda backend: with_overrides(backend, changes)


def _bare(**changes: object) -> Callable[[Backend], Backend]:
    return lambda backend: backend.model_copy(update=changes)


def _dated(row: ServingRow) -> bool:
    return load_backend(backend_of(row.backend)).pace(row.version, row.family) != 1.0


ENGINE_SWITCHES = (
    EngineSwitch(
        "experts are uneven where nothing balances them", "TPOT", _bare(expert_spread=0.0),
        lambda row: row.decode.ep > 1 and row.decode.dp > 1,
    ),
    EngineSwitch("drafts run one after another, each launched", "TPOT", _without(draft="0 us"), lambda row: row.drafts),
    EngineSwitch("versions have a pace of their own", "TPOT", _bare(versions=()), _dated),
    EngineSwitch(
        "4-bit experts are widened where no tensor core takes them", "TPOT", _without(widened=0.0),
        lambda row: row.experts == "fp4" and row.system.startswith("h"),
    ),
    EngineSwitch(
        "block-scaled fp8 on Blackwell is not DeepGEMM's", "TTFT", _without(fp8_blackwell=1.0),
        lambda row: row.weights == "fp8" and row.system.startswith(("b", "gb")),
    ),
    EngineSwitch("kernels of a graph follow each other after a gap", "TPOT", _without(gap="0 us"), lambda row: True),
    EngineSwitch(
        "the host works between steps and for each sequence", "TPOT", _without(step="0 us", sequence="0 us"), lambda row: True
    ),
    EngineSwitch(
        "a server, and some steps, before a first token", "TTFT", _without(first_token="0 us", first_steps=0.0),
        lambda row: True,
    ),
    EngineSwitch(
        "decode workers look for requests between steps", "TTFT", _without(handover="0 us", handover_steps=0.0),
        lambda row: row.prefill is not None,
    ),
)  # fmt: skip


def changed(change: Callable[[Backend], Backend]) -> Engines:
    """All engines with ``change``."""
    return {name: change(load_backend(name)) for name in backend_names()}


def _constants(rows: Sequence[ServingRow], whole: Predicted) -> Iterator[Switched]:
    """The switches of `ENGINE_SWITCHES`, each on the rows that it concerns."""
    tpot, ttft = [row.tpot_s for row in rows], [row.ttft_s for row in rows]
    for switch in ENGINE_SWITCHES:
        if mine := [i for i, row in enumerate(rows) if switch.holds(row)]:
            few = [rows[i] for i in mine]
            off = predict_serving(few, changed(switch.off))
            times, on, without = (
                (tpot, whole.tpot_s, off.tpot_s) if switch.judged == "TPOT" else (ttft, whole.ttft_s, off.ttft_s)
            )
            kept = [times[i] for i in mine]
            yield _switched(switch.mechanism, switch.judged, kept, on[mine], without, range(len(mine)))


def _production() -> Iterator[Switched]:
    """Runs of whole pools with two-batch overlap, as the time of a token."""
    runs = [run for run in RUNS if run.overlap]
    measured = [1.0 / run.published for run in runs]
    on, off = (
        np.array([1.0 / predict_run(run, engine=engine(run.backend)).predicted for run in runs])
        for engine in (load_backend, lambda name: with_overrides(load_backend(name), {"contention": 1.0}))
    )
    yield _switched("kernels beside an exchange slow each other down", "production", measured, on, off, range(len(runs)))


def _switched(mechanism: str, judged: str, measured: Sequence[float], on: Floats, off: Floats, at: Sequence[int]) -> Switched:
    truth = np.asarray(measured)[at]
    errors = [100.0 * np.abs(np.asarray(found)[at] / truth - 1.0) for found in (on, off)]
    medians, means = ([float(f(e)) for e in errors] for f in (np.median, np.mean))
    return Switched(mechanism, judged, len(truth), *medians, *means)


def _field(path: Path, switch: FieldSwitch, within: AbstractContextManager[None] | None = None) -> Switched | None:
    """Figures that count, with the scenario as it is and with the switch set, or ``within`` what turns the mechanism off."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = [r for r in csv.DictReader(file) if r["counts"] == "yes" and r["id"].startswith(switch.ids)]
    if not records:
        return None
    measured = [float(r["measured"]) for r in records]

    def answers(sets: Sequence[str]) -> Floats:
        return np.array([_metric(path.parent / r["scenario"], sets, r["metric"]) for r in records])

    found = [answers(())]
    with within or nullcontext():
        found.append(answers(switch.sets))
    judged = "field: " + ", ".join(switch.ids)
    return _switched(switch.mechanism, judged, measured, found[0], found[1], range(len(records)))


def _metric(scenario: Path, sets: Sequence[str], name: str) -> float:
    answer = evaluation_of(load_scenario(scenario, sets))
    metrics = {m.key: m.value for m in answer.metrics}
    return metrics["input_tokens_per_s_gpu"] * answer.gpus if name == "input_tokens_per_s" else metrics[name]
