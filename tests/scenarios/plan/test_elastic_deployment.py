"""DeepEP V2 in whole deployments: used where asked for, said to be unmeasured, and taken by no search unasked."""

from __future__ import annotations

import pytest

from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.ask.search import Search
from epicycle.scenarios.plan.plan import plan
from epicycle.sim.inputs.model import load_model
from epicycle.sim.inputs.serving import Workload
from epicycle.sim.inputs.serving_question import ServingQuestion

ELASTIC = ("deployment.decode.protocol=elastic", "deployment.prefill.protocol=elastic")


def served(*sets: str):
    return evaluate(load_serving("serve-deepseek-v3-h200", sets).resolve())


def test_a_deployment_exchanges_by_it_and_says_that_nobody_measured_it() -> None:
    found, measured = served(*ELASTIC), served()
    for pool in found.pools:
        assert "elastic" in pool.arrangement
        (step,) = pool.steps
        sources = {part.name: part.source for part in step.parts if part.name in ("dispatch", "combine")}
        assert set(sources) == {"dispatch", "combine"}
        assert all("by the fit of high-throughput on h100_sxm" in source for source in sources.values())
        assert {"elastic slots", "ordered rows"} <= {item.name for item in pool.memory}
    assert any("elastic leans on other kernels" in note and "published row" in note for note in found.notes)
    assert not any("elastic" in note for note in measured.notes)


def test_two_batch_overlap_hides_it_as_it_hides_high_throughput() -> None:
    """Kernels on some SMs leave the rest to the other half: the step is shorter."""
    plain, hidden = (served(*ELASTIC, f"deployment.prefill.overlap={on}").metric("ttft").value for on in ("false", "true"))
    assert hidden < plain


def test_it_is_refused_where_it_cannot_run() -> None:
    with pytest.raises(BadInput, match=r"elastic across nodes needs whole NVLink domains .* use 8 or 16"):
        served("deployment.decode.protocol=elastic", "deployment.decode.dp=12", "deployment.decode.ep=12",
               "deployment.decode.redundant_experts=8")  # fmt: skip
    with pytest.raises(BadInput, match="leaves none of the 132 SMs"):
        served("deployment.decode.protocol=elastic", "deployment.decode.comm_sms=132")


def test_a_search_takes_it_only_where_asked() -> None:
    question = ServingQuestion(
        "asked", "", load_model("qwen3-30b-a3b"), load_cluster("h100-cx7", 1), Workload(input_tokens=2000, output_tokens=500)
    )
    few = {"batches": (64,), "chunk_tokens": (2048,), "prefill_chunk_tokens": (8192,), "confirm": 0, "keep": 1000}

    def protocols(**search: object) -> set[str]:
        candidates = plan(question, Search(**few, **search)).candidates  # type: ignore[arg-type]
        return {candidate.serving.decode.protocol for candidate in candidates if candidate.serving.decode.dp > 1}

    assert protocols(protocols=("elastic",)) == {"elastic"}
    unasked = protocols()
    assert unasked and "elastic" not in unasked
