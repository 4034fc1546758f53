"""A whole answered question: the critical path, spans and links add up; the same seed gives the same bytes."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask.scenario import load_scenario
from epicycle.sim.engine import Simulator
from epicycle.sim.ep.stage import LOCAL
from epicycle.sim.fabric.topology import Topology
from epicycle.sim.layer.layer import simulate
from epicycle.sim.layer.program import build

GALLERY = {
    "ep-anatomy": ["traffic.tokens_per_rank=3"],
    "deepseek-v3-decode-ep32": [],
    "deepseek-v3-prefill-ep32": ["traffic.tokens_per_rank=512"],
    "deepseek-v3-power-law-replicas": [],
    "gb200-nvl72-one-sided-ep16": [],
    "static-collectives-ep16": [],
}


def answer(name, *sets):
    return simulate(load_scenario(name, sets).resolve())


@pytest.fixture(scope="module", params=GALLERY)
def answered(request):
    question = load_scenario(request.param, GALLERY[request.param]).resolve()
    return question, simulate(question)


def test_the_critical_path_leads_from_start_to_end(answered):
    question, found = answered
    for layer in found.layers:
        path = layer.critical_path
        assert path[0].start_ps == 0 and path[-1].end_ps == layer.makespan_ps
        assert all(a.end_ps == b.start_ps for a, b in pairwise(path))
        assert all(s.end_ps > s.start_ps and 0 <= s.rank < question.deployment.ep for s in path)
        assert sum(layer.bound_us().values()) == pytest.approx(layer.makespan_ps / 1e6, rel=1e-9)
        assert sum(layer.op_us(op.op) for op in layer.ops) == pytest.approx(layer.makespan_ps / 1e6, rel=1e-9)


def test_every_bound_is_a_resource_or_a_wait_that_its_op_describes(answered):
    question, found = answered
    kinds = set(Topology(question.cluster, question.deployment.ep).resources.kinds) | set(LOCAL)
    for layer in found.layers:
        stages = [step.stage for step in build(question, layer.protocol, Simulator(question.seed)).steps]
        for segment in layer.critical_path:
            (stage,) = {s.name: s for s in stages if s.name == segment.stage}.values()
            waits = {what for what, _ in stage.latencies}
            assert segment.op == stage.op and segment.bound in kinds | waits, segment
            (op,) = [o for o in layer.ops if o.op == segment.op]
            assert op.start_ps <= segment.start_ps < segment.end_ps


@pytest.mark.parametrize(
    ("slow", "protocol", "bounds"),
    [
        ('cluster.node.nic.bandwidth="2 GB/s"', "low-latency", {"nic_tx", "nic_rx"}),
        ('cluster.node.nic.bandwidth="2 GB/s"', "high-throughput", {"nic_tx", "nic_rx"}),
        ('cluster.node.gpu.nvlink_bandwidth="3 GB/s"', "high-throughput", {"nvlink_tx", "nvlink_rx"}),
        ('cluster.node.nic.bandwidth="2 GB/s"', "elastic", {"nic_tx", "nic_rx"}),
        ('cluster.node.nic.message_rate="200 k/s"', "low-latency", {"nic_msg"}),
        ('cluster.node.gpu.hbm_bandwidth="50 GB/s"', "low-latency", {"hbm"}),
    ],
)
def test_what_is_slow_is_what_bounds(slow, protocol, bounds):
    """One thing slowed down 25 times or more takes most of the critical path, by its name."""
    layer = answer("deepseek-v3-decode-ep32", slow, f"deployment.protocol={protocol}", "deployment.compare=[]").layers[0]
    assert sum(us for bound, us in layer.bound_us().items() if bound in bounds) > 0.6 * layer.makespan_ps / 1e6, (
        layer.bound_us()
    )


def test_spans_lie_within_the_layer_and_do_not_overlap_on_a_stream(answered):
    _, found = answered
    for layer in found.layers:
        assert min(s.start_ps for s in layer.spans) == 0 and max(s.end_ps for s in layer.spans) == layer.makespan_ps
        by_stream = {}
        for span in sorted(layer.spans, key=lambda s: (s.rank, s.stream, s.start_ps, s.end_ps)):
            assert span.end_ps > span.start_ps
            before = by_stream.get((span.rank, span.stream))
            assert before is None or before.end_ps <= span.start_ps, (before, span)
            by_stream[span.rank, span.stream] = span


def test_links_carry_no_more_than_they_can(answered):
    _, found = answered
    for layer in found.layers:
        for link in layer.links:
            assert 0 <= link.utilisation <= 1 + 1e-9 and 0 <= link.peak <= 1 + 1e-9
            assert link.utilisation <= link.peak + 1e-9, link
            assert link.utilisation == pytest.approx(link.moved / (link.capacity_per_s * layer.makespan_ps * 1e-12), abs=1e-12)
        for kind, medium in (("nvlink_tx", "nvlink"), ("nvlink_rx", "nvlink"), ("nic_tx", "rdma"), ("nic_rx", "rdma")):
            moved = sum(link.moved for link in layer.links if link.kind == kind)
            assert moved == sum(int(m.bytes.sum()) for m in layer.traffic if m.medium == medium), kind


def test_every_token_is_computed_by_its_k_experts(answered):
    question, found = answered
    tokens = sum(question.traffic.on_ranks(question.deployment.ep))
    for layer in found.layers:
        assert layer.expert_load.sum() == layer.rank_load.sum() == tokens * question.model.top_k
        np.testing.assert_array_equal(layer.expert_load, found.layers[0].expert_load)


@pytest.mark.parametrize("kind", ["uniform", "power-law"])
def test_micro_batches_are_the_same_tokens_and_not_faster(kind):
    """128 tokens in calls of 48: as many rows on every rank, the bytes of one call, and three times its launches."""
    keys = (f"traffic.routing={{kind: {kind}}}", "deployment.compare=[]", "deployment.max_tokens=")
    whole, parts = (answer("deepseek-v3-decode-ep32", *keys[:2], f"{keys[2]}{most}").layers[0] for most in (128, 48))
    np.testing.assert_array_equal(parts.expert_load, whole.expert_load)
    np.testing.assert_array_equal(parts.rank_load, whole.rank_load)
    for a, b in zip(parts.traffic, whole.traffic, strict=True):
        assert (a.stage, a.medium) == (b.stage, b.medium)
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.bytes, b.bytes)
    assert parts.makespan_ps > whole.makespan_ps
    assert any("3 micro-batches of at most 48 tokens" in note for note in parts.notes)
    assert sum(m.bytes for m in parts.memory) < sum(m.bytes for m in whole.memory)
    for op in parts.ops:
        assert 0 < op.duration_ps < parts.makespan_ps
    assert sum(op.duration_ps for op in parts.ops) < 1.5 * parts.makespan_ps


def test_compared_protocols_see_the_same_tokens():
    """Micro-batched or not: popularity, placement and choices belong to the traffic, not to the protocol."""
    keys = ("traffic.routing={kind: power-law, alpha: 1.0}", "deployment.max_tokens=40")
    layers = answer("deepseek-v3-decode-ep32", *keys).layers
    assert len({layer.protocol for layer in layers}) == 2
    np.testing.assert_array_equal(layers[0].expert_load, layers[1].expert_load)


def test_a_recorded_file_is_used_line_by_line_whatever_the_calls(tmp_path):
    rng = np.random.default_rng(1)
    chosen = np.argsort(rng.random((16 * 40, 256)), axis=1)[:, :8]
    (tmp_path / "topk.csv").write_text("\n".join(",".join(map(str, row)) for row in chosen))
    keys = (
        "deployment.ep=16", "deployment.compare=[]", "traffic.tokens_per_rank=40",
        f"traffic.routing={{kind: file, file: {tmp_path / 'topk.csv'}}}",
    )  # fmt: skip
    for most in (16, 64):
        found = answer("deepseek-v3-decode-ep32", *keys, f"deployment.max_tokens={most}").layers[0]
        assert found.expert_load.tolist() == np.bincount(chosen.ravel(), minlength=256).tolist()


COMMAND = """
import sys
from epicycle.cli import main
sys.argv = ["epicycle", "simulate", *sys.argv[1:], "--json", "-"]
main()
"""


def test_the_same_seed_gives_the_same_bytes_in_every_process():
    """Two processes whose hashes of strings differ, side by side; then another seed."""

    def start(seed, hashes):
        words = ["deepseek-v3-power-law-replicas", "--seed", str(seed), "--set", "deployment.compare=[high-throughput]"]
        environment = {**os.environ, "PYTHONHASHSEED": str(hashes)}
        return subprocess.Popen([sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, env=environment)

    running = [start(1, 1), start(1, 4242), start(2, 1)]
    one, again, other = (process.communicate(timeout=600)[0] for process in running)
    assert all(process.returncode == 0 for process in running)
    assert one == again and len(one) > 10_000
    a, b = json.loads(one), json.loads(other)
    assert a["layers"][0]["expert_load"] != b["layers"][0]["expert_load"]
    assert a["layers"][0]["makespan_us"] != b["layers"][0]["makespan_us"]


def test_a_question_asked_twice_in_one_process_has_one_answer():
    from epicycle.scenarios.say.answer_json import answer_json

    assert answer_json(answer("ep-anatomy")) == answer_json(answer("ep-anatomy"))


def test_replicas_and_balance_help_a_skewed_layer():
    with_replicas = answer("deepseek-v3-power-law-replicas").layers[0]
    bare = ("deployment.redundant_experts=0", "deployment.placement=contiguous")
    without = answer("deepseek-v3-power-law-replicas", *bare).layers[0]
    assert with_replicas.makespan_ps < without.makespan_ps
    assert np.ptp(with_replicas.rank_load) < np.ptp(without.rank_load)


def test_memory_that_does_not_fit_says_by_how_much_and_what_to_change():
    with pytest.raises(
        BadInput, match=r"memory does not fit on h100-sxm: low-latency needs .* more than its 80 GiB; .*: "
    ) as refused:
        answer("deepseek-v3-decode-ep32", "deployment.max_tokens=8192")
    assert "lower deployment.max_tokens, or use protocol=high-throughput" in str(refused.value)


@pytest.mark.parametrize(
    ("sets", "complaint"),
    [
        (("protocol=two-sided", "ep=16"), "two-sided needs all ranks in one NVLink domain"),
        (("protocol=one-sided", "ep=16"), "one-sided needs all ranks in one NVLink domain"),
        (("protocol=all-gather", "ep=12"), "all-gather across nodes needs whole NVLink domains .* use 8 or 16"),
        (("protocol=high-throughput", "ep=12"), "high-throughput across nodes needs whole NVLink domains .* use 8 or 16"),
        (("protocol=elastic", "ep=12"), "elastic across nodes needs whole NVLink domains .* use 8 or 16"),
        (("compare=[all-gather]", "ep=12"), "all-gather across nodes needs whole NVLink domains"),
    ],
)
def test_a_protocol_that_would_lose_rows_there_is_refused(sets, complaint):
    """Paths that do not reach every expert's rank must not run: their tokens would vanish."""
    with pytest.raises(BadInput, match=complaint):
        answer("deepseek-v3-decode-ep32", "model.experts=240", "deployment.compare=[]", *(f"deployment.{s}" for s in sets))


def test_balanced_routing_has_no_replicas():
    with pytest.raises(BadInput, match="balanced routing deals every expert once, got 32 redundant_experts: use 0"):
        answer("deepseek-v3-decode-ep32", "traffic.routing={kind: balanced}", "deployment.redundant_experts=32")


@pytest.mark.parametrize("sets", [["traffic.tokens_per_rank=1"], ["traffic.tokens_per_rank=[" + "0," * 31 + "1]"]])
def test_almost_nothing_to_do_is_no_special_case(sets):
    found = answer("deepseek-v3-decode-ep32", *sets)
    for layer in found.layers:
        assert layer.makespan_ps > 0 and layer.critical_path[0].start_ps == 0
