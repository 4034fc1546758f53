"""When nothing meets the limits: which fails by how much, and which change would close the gap, by asking again with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...hwmodels.catalog import names
from ...hwmodels.errors import BadInput
from ...hwmodels.units import format_bytes, format_time
from ...sim.inputs.serving_question import ServingQuestion
from ..answer.evaluation import Evaluation, Limit
from ..ask.search import Search
from .candidates import Ranked
from .table import Table, on_cluster, table_of

#: Rows of a changed search that are evaluated until one meets every limit.
_TRIED = 6


@dataclass(frozen=True, slots=True)
class _Change:
    """Something else to ask, in the words of what to set."""

    words: str
    question: ServingQuestion
    search: Search


def unmet(table: Table, closest: Evaluation | None, note: Callable[[str], None]) -> tuple[Limit, ...]:
    """Each limit with what the closest deployment reaches, and the lever that the same search finds by asking again.

    ``table``: the one of the clusters' that comes closest; ``closest``: its best row on its own, None where there is no row, or
    none that carries the load on its own. ``note`` gets what no limit can say.
    """
    changes = list(_changes(table))
    if closest is None and table.question.workload.rate is not None:
        return tuple(_rate(table, changes))
    if closest is None:
        return (_memory(table, changes) if table.nearest else _gpus(table),)
    answers: list[tuple[_Change, Evaluation]] = []
    found = []
    for limit in closest.limits:
        if limit.met:
            found.append(limit)
            continue
        answers = answers or _until_met(changes)
        found.append(replace(limit, lever=_lever(answers, limit)))
        least = float(getattr(table.rows, f"{limit.key}_s").min())
        if least < 0.99 * limit.got:
            note(f"{limit.words} alone can be {format_time(least)}, in deployments that miss another limit by more")
    return tuple(found)


def _lever(answers: list[tuple[_Change, Evaluation]], limit: Limit) -> str:
    """The first change with which all limits are met; else the one that brings this limit's figure lowest."""
    best, figure = "", np.inf
    for change, answer in answers:
        got = answer.metric(limit.key).value
        if all(each.met for each in answer.limits):
            return f"{change.words}: {format_time(got)}, and every limit is met"
        if got < figure:
            best, figure = change.words, got
    if figure >= limit.got:
        return "none of the changes tried helps"
    reaches = "would do for this limit" if figure <= limit.wanted else "comes closest of the changes tried"
    return f"{best} {reaches}: {limit.words} {format_time(figure)}"


def _until_met(changes: list[_Change]) -> list[tuple[_Change, Evaluation]]:
    """The best of each change on its own, up to the first with which every limit is met."""
    answers = []
    for change, table in _asked(changes):
        if (answer := _best(table)) is not None:
            answers.append((change, answer))
            if all(limit.met for limit in answer.limits):
                break
    return answers


def _best(table: Table) -> Evaluation | None:
    """The best deployment of a table on its own: the first that meets every limit, or the one that comes closest."""
    if not len(table.rows):
        return None
    ranked = Ranked([table])
    found = ranked.settled(_TRIED) or next(filter(None, map(ranked.evaluated, ranked.order[:_TRIED])), None)
    return None if found is None else found.answer


def _asked(changes: list[_Change]) -> Iterator[tuple[_Change, Table]]:
    """Every change's table, over every other batch; a change that cannot be asked is left out."""
    for change in changes:
        try:
            batches = change.search.batches
            fewer = change.search.model_copy(update={"batches": tuple(dict.fromkeys((*batches[::2], batches[-1])))})
            yield change, table_of(change.question, fewer)
        except BadInput:
            continue


def _rate(table: Table, changes: list[_Change]) -> Iterator[Limit]:
    """No deployment of the budget carries the rate within the limits: how much one does, and how many GPUs would."""
    question, search = table.question, table.search
    wanted = question.workload.rate or 0.0
    free = replace(question, workload=question.workload.model_copy(update={"rate": None, "arrivals": None, "burstiness": None}))
    most = table_of(free, search)
    meets = np.flatnonzero(most.misses() <= 1.0)
    rows = meets if len(meets) else np.arange(len(most.rows))
    if not len(rows):
        yield _memory(most, changes)
        return
    # A queue at a rate waits longer than a closed loop that carries as much: never said to be carried.
    got = min(float(most.rows.requests_per_s[rows].max()), 0.999 * wanted)
    yield Limit("rate", "requests per second", wanted, got, "1/s", False, _more_gpus(table, got / wanted))
    if not len(meets):
        yield from unmet(most, _best(most), lambda words: None)


def _more_gpus(table: Table, share: float) -> str:
    """The fewest whole nodes with which the search carries the rate within the limits: what the ``share`` that is carried
    suggests, or more, and then by halves as few as will do."""
    cluster = table.question.cluster
    each = cluster.node.gpus
    fewest = (table.search.gpus or cluster.gpus) // each + 1

    def carried(nodes: int) -> bool:
        return any(
            (answer := _best(there)) is not None and all(limit.met for limit in answer.limits)
            for _, there in _asked([_with_gpus(table, nodes * each)])
        )

    nodes = max(fewest, int(np.ceil(fewest / max(share, 1e-6))))
    for _ in range(4):
        if nodes > cluster.max_nodes:
            break
        if carried(nodes):
            few = fewest
            while few < nodes:
                middle = (few + nodes) // 2
                few, nodes = (few, middle) if carried(middle) else (middle + 1, nodes)
            return f"{_with_gpus(table, nodes * each).words}: enough of them for the rate within the limits"
        nodes = int(np.ceil(nodes * 1.15))
    return f"a lower rate: {cluster.max_nodes * each} GPUs, the most of {cluster.name}, do not carry it either"


def _memory(table: Table, changes: list[_Change]) -> Limit:
    """Nothing fits: what the closest worker needs, and the first change with which something does."""
    usable = table.question.cluster.node.gpu.hbm_capacity * table.search.memory_share
    lever = next((f"{change.words}: it fits" for change, answer in _asked(changes) if len(answer.rows)), "")
    words = f"memory of one GPU ({table.nearest})" if table.nearest else "memory of one GPU"
    needed = usable + table.short_bytes
    return Limit("memory", words, usable, needed, "B", False, lever or f"{format_bytes(needed, binary=True)} a GPU")


def _gpus(table: Table) -> Limit:
    """Workers fit, but not one of each kind into the GPUs there are."""
    have = table.search.gpus or table.question.cluster.gpus
    kinds = [workers.gpus.min() for workers in (table.prefill, table.decode) if len(workers)]
    need = int(sum(kinds))
    load = table.question.workload.concurrency
    if need <= have and load is not None and len(table.decode):
        return _unfilled(table, load)
    words = "GPUs for a prefill and a decode worker"
    return Limit("gpus", words, have, need, "", False, f"{need} GPUs, or search.modes=[aggregated]")


def _unfilled(table: Table, load: int) -> Limit:
    """GPUs are enough, but a closed loop's requests never fill the batches that are looked at."""
    fewest, batch = int((table.decode.dp * table.decode.batch).min()), int(load / table.decode.dp.min())
    where = "deployment.decode.batch" if table.search.is_held("batches") else "search.batches"
    lever = f"a {where} below {batch}" if batch > 1 else "workers of fewer GPUs"
    for more in (fewest, 2 * fewest):
        loaded = table.question.workload.model_copy(update={"concurrency": more})
        change = _Change(f"--set workload.concurrency={more}", replace(table.question, workload=loaded), table.search)
        if any(len(there.rows) for _, there in _asked([change])):
            lever += f", or {change.words}"
            break
    return Limit("in_flight", "requests in flight with full batches", fewest, load, "", False, lever)


def _changes(table: Table) -> Iterator[_Change]:
    """What may help, what costs least first: settings of the engine, narrower numbers, more GPUs, other GPUs."""
    question, search = table.question, table.search
    gpu = question.cluster.node.gpu

    def with_(words: str, **update: object) -> _Change:
        return _Change(words, question, search.model_copy(update=update))

    if search.protocols is not None and not search.is_held("protocols"):
        yield with_("--set search.protocols=null", protocols=None)
    if search.modes != ("aggregated", "disaggregated") and not search.is_held("modes"):
        yield with_("--set 'search.modes=[aggregated, disaggregated]'", modes=("aggregated", "disaggregated"))
    if question.model.mtp_layers and not search.mtp and not search.is_held("mtp"):
        yield with_("--set search.mtp=1", mtp=1)
    if (search.kv or "bf16") == "bf16" and not search.is_held("kv"):
        yield with_("--set search.kv=fp8", kv="fp8")
    stored = search.experts or question.model.expert_dtype
    narrower = {"bf16": "fp8", "fp8": "fp4"}.get(stored)
    if narrower in gpu.tensor_flop_per_cycle_sm and not search.is_held("experts", "weights"):
        if stored == "bf16":
            yield with_("--set search.weights=fp8 --set search.experts=fp8", weights="fp8", experts="fp8")
        else:
            yield with_(f"--set search.experts={narrower}", experts=narrower)
    for more in (2, 4):
        gpus = (search.gpus or question.cluster.gpus) * more
        if gpus <= question.cluster.max_nodes * question.cluster.node.gpus:
            yield _with_gpus(table, gpus)
    for name in ("h200-cx7", "b200-cx7", "gb200-nvl72"):
        if name != question.cluster.name and name in names("clusters") and name not in search.clusters:
            there = on_cluster(question, name)
            yield _Change(f"--set cluster={name}", there, search.model_copy(update={"gpus": there.cluster.gpus}))


def _with_gpus(table: Table, gpus: int) -> _Change:
    """The same search with ``gpus`` GPUs."""
    question, search = table.question, table.search
    cluster = question.cluster.model_copy(update={"nodes": -(-gpus // question.cluster.node.gpus)})
    words = f"--set cluster.nodes={cluster.nodes}" if search.gpus is None else f"--set search.gpus={gpus}"
    return _Change(f"{words} ({gpus} GPUs)", replace(question, cluster=cluster), search.model_copy(update={"gpus": gpus}))
