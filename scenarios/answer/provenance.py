"""Every input of a deployment's answer, with its source."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from ...hwmodels.backends import Backend
from ...hwmodels.prices import load_prices, overrides_for
from ...sim.inputs.serving import Serving
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.layer.result import InputRow


def provenance(question: ServingQuestion, serving: Serving, backend: Backend) -> Iterator[InputRow]:
    """Rows by section: model, GPU, NIC, switch, cluster, workload, limits, deployment, engine, price."""
    cluster = question.cluster
    for section, record in (
        ("model", question.model),
        ("gpu", cluster.node.gpu),
        ("nic", cluster.node.nic),
        ("switch", cluster.fabric.switch),
    ):
        for name, value in record.model_dump(mode="json", exclude={"sources", "attention"}).items():
            if isinstance(value, str | int | float):
                yield InputRow(section, name, str(value), record.sources.get(name, record.sources.get("*", "")))
    if (there := question.prefill_cluster) is not None:
        for section, record in (("prefill gpu", there.node.gpu), ("prefill nic", there.node.nic)):
            for name, value in record.model_dump(mode="json", exclude={"sources"}).items():
                if isinstance(value, str | int | float):
                    yield InputRow(section, name, str(value), record.sources.get(name, record.sources.get("*", "")))
        yield InputRow("cluster", "of prefill", f"{there.label}, {there.nodes} nodes", there.sources.get("*", ""))
    source = cluster.sources.get("*", "")
    yield InputRow("cluster", "name", cluster.label, source)
    yield InputRow("cluster", "nodes", f"{cluster.nodes}, {cluster.node.gpus} GPUs each", source)
    fabric = f"{cluster.fabric.kind}, oversubscription {cluster.fabric.oversubscription:g}"
    yield InputRow("cluster", "fabric", fabric, cluster.sources.get("fabric.oversubscription", source))
    for section, given in (("workload", question.workload), ("limits", question.slo), ("deployment", serving)):
        yield from _given(section, given, "")
    fit = backend.fit
    origin = backend.sources.get("*", "")
    if fit is not None:
        origin = (
            f"fitted to {fit.rows} of {fit.rows_available} rows of {fit.table}: TPOT error of the rest {fit.median_rest_pct} % "
        )
        origin += f"median, {fit.mean_rest_pct} % mean"
    for name, value in backend.on(cluster.calibration).model_dump(mode="json").items():
        yield InputRow("engine", f"{backend.name} {name}", str(value), backend.sources.get(f"constants.{name}", origin))
    prices = load_prices(overrides_for(question.prices_overrides, cluster.node.gpu), cluster.node.gpu)
    key = f"gpu_hour.{cluster.node.gpu.name}"
    for name, value, said in prices.entries():
        if name == key:
            yield InputRow("price", name, value, said)


def _given(section: str, record: BaseModel, prefix: str) -> Iterator[InputRow]:
    """What the scenario says, key by key, and what holds because it says nothing."""
    written = record.model_dump(mode="json")
    for name in type(record).model_fields:
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            yield from _given(section, value, f"{prefix}{name}.")
        elif value is not None:
            said = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(written[name])
            yield InputRow(section, f"{prefix}{name}", said, "scenario" if name in record.model_fields_set else "default")
