"""A serving engine of one line, so that the commands can be held against arithmetic: a decode step is a sum of four quotients.

step = (ATTENTION x batch + EXPERTS) / HBM bandwidth + EXCHANGE x batch / NIC bandwidth + HOST.
"""

from __future__ import annotations

from epicycle import __version__
from epicycle.hwmodels.backends import Backend, load_backend
from epicycle.hwmodels.prices import load_prices
from epicycle.scenarios.answer.evaluation import Candidate, Evaluation, Limit, Metric, PartTime, Plan, Pool, StepTime
from epicycle.scenarios.ask.search import Search
from epicycle.sim.ep.buffer import MemoryItem
from epicycle.sim.inputs.feasible import Unanswerable
from epicycle.sim.inputs.serving import Serving, Worker
from epicycle.sim.inputs.serving_question import ServingQuestion
from epicycle.sim.layer.result import InputRow

ATTENTION, EXPERTS, EXCHANGE, HOST = 2e8, 2e10, 4e6, 1e-3
MOST = 2048


def seconds(batch: float, hbm: float, nic: float) -> tuple[float, float, float, float]:
    return ATTENTION * batch / hbm, EXPERTS / hbm, EXCHANGE * batch / nic, HOST


def evaluate(question: ServingQuestion, backend: Backend | None = None) -> Evaluation:
    serving = question.serving
    assert serving is not None
    batch = serving.decode.batch or 64
    if batch > MOST:
        raise Unanswerable(("deployment", "decode", "batch"), f"memory does not fit batch {batch}: use batch={MOST} or less")
    gpu, nic = question.cluster.node.gpu, question.cluster.node.nic
    named = (
        ("attention", "attention", "hbm"),
        ("experts", "experts", "hbm"),
        ("dispatch", "communication", "nic"),
        ("host", "host", "host"),
    )
    slower = backend.constants.step / load_backend(serving.backend).constants.step if backend else 1.0
    *kernels, host = seconds(batch, gpu.hbm_bandwidth, nic.bandwidth)
    times = (*kernels, host * slower)
    parts = tuple(PartTime(*name, time, time, bound, 0.0, 0.0, 0.0) for (*name, bound), time in zip(named, times, strict=True))
    tpot = sum(times)
    out = batch * serving.decode.dp * serving.decode.count / tpot / serving.gpus
    usd = load_prices(question.prices_overrides).usd_per_gpu_hour(gpu.name, "rental")
    metrics = (
        Metric("tpot", "time per output token", "s", tpot, "low", 0.9 * tpot, 0.95 * tpot, 1.05 * tpot, 1.1 * tpot),
        Metric("output_tokens_per_s_gpu", "output tokens per second and GPU", "tokens/s", out, "high"),
        Metric("usd_per_mtok_output", "dollars per million output tokens", "USD/Mtok", usd / 3600 / out * 1e6, "low"),
        Metric("nothing", "a number that does not exist", "", float("nan")),
    )
    wanted = question.slo.tpot
    lever = "a smaller batch"
    limits = (
        () if wanted is None else (Limit("tpot", "TPOT", wanted, tpot, "s", tpot <= wanted, "" if tpot <= wanted else lever),)
    )
    step = StepTime("decode", tpot, float(batch), float(batch), 0.1, 0.5, "hbm", parts)
    memory = (MemoryItem("weights", 40 << 30, "toy"),)
    pool = Pool("decode", f"dp {serving.decode.dp}", serving.decode.count, serving.gpus, memory, 80 << 30, (step,))
    return Evaluation(
        question.name,
        question.description,
        f"{question.name} takes {tpot * 1e3:.1f} ms a token.",
        question.model.name,
        question.cluster.name,
        serving.gpus,
        serving,
        metrics,
        (pool,),
        {"GPU time": usd * serving.gpus},
        limits,
        inputs=(InputRow("gpu", "name", gpu.name, "toy"),),
        seed=question.seed,
        version=__version__,
    )


def plan(question: ServingQuestion, search: Search, progress: object = None) -> Plan:
    """Every batch of the search on 32 GPUs; the cheapest that meets the limits."""
    answers = []
    for batch in search.batches:
        serving = Serving(decode=Worker(dp=32, ep=32, batch=batch))
        asked = ServingQuestion(
            question.name,
            question.description,
            question.model,
            question.cluster,
            question.workload,
            question.slo,
            serving,
            question.prices_overrides,
            question.seed,
        )
        answers.append(evaluate(asked))
    meeting = [answer for answer in answers if all(limit.met for limit in answer.limits)]
    best = min(meeting, key=lambda answer: answer.metric("usd_per_mtok_output").value, default=None)
    nearest = min(answers, key=lambda answer: answer.metric("tpot").value)
    candidates = tuple(
        Candidate(
            answer.serving,  # type: ignore[arg-type]
            answer.cluster,
            answer.gpus,
            "dp 32, ep 32",
            {metric.key: metric.value for metric in answer.metrics},
            answer is best,
            answer in meeting,
        )
        for answer in answers
    )
    sentence = f"{len(meeting)} of {len(answers)} deployments meet the limits."
    limits = best.limits if best else nearest.limits
    return Plan(
        question.name,
        question.description,
        sentence,
        len(answers),
        len(answers),
        len(meeting),
        best,
        candidates,
        limits,
        {"too slow": len(answers) - len(meeting)},
        version=__version__,
    )
