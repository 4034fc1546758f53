"""Made-up plans, sweeps, comparisons and explanations of plausible shape, for the tests of their pages.

None of these numbers is a prediction. `python tests/scenarios/made_up.py FOLDER` writes the pages to look at.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from epicycle.scenarios.answer.evaluation import (
    Candidate,
    Change,
    Comparison,
    Evaluation,
    Explanation,
    Limit,
    Metric,
    PartTime,
    Plan,
    Pool,
    Sensitivity,
    StepTime,
    Sweep,
    SweepPoint,
)
from epicycle.sim.ep.buffer import MemoryItem
from epicycle.sim.inputs.serving import Serving, Worker
from epicycle.sim.layer.result import InputRow

COMMAND = "epicycle plan plan-deepseek-v3-h200 --set workload.input_tokens=4000 --html plan.html"
# name, group, milliseconds of a decode step, share of it that is exposed, bound
PARTS = (
    ("embedding", "head", 0.02, 1.0, "hbm"),
    ("attention norms and projections", "attention", 3.1, 1.0, "hbm"),
    ("MLA over the KV cache", "attention", 5.4, 1.0, "hbm"),
    ("attention output", "attention", 1.9, 1.0, "hbm"),
    ("dense feed-forward (3 layers)", "feed-forward", 0.5, 1.0, "hbm"),
    ("router and gate", "experts", 0.6, 1.0, "launch"),
    ("dispatch", "communication", 4.8, 0.35, "nic"),
    ("shared expert", "feed-forward", 1.1, 1.0, "hbm"),
    ("routed experts, grouped GEMM", "experts", 6.9, 1.0, "hbm"),
    ("combine", "communication", 6.2, 0.55, "nic"),
    ("norms and residuals", "head", 0.4, 1.0, "launch"),
    ("language-model head", "head", 0.45, 1.0, "tensor"),
    ("sampling", "head", 0.12, 1.0, "launch"),
    ("host between steps", "host", 0.9, 1.0, "host"),
)


def step(phase: str = "decode", network: float = 1.0, batch: float = 128.0) -> StepTime:
    """A step whose communication takes ``network`` times as long and whose kernels grow with ``batch``."""
    slow = 9.0 if phase == "prefill" else 0.5 + batch / 256
    parts = []
    for name, group, ms, shown, bound in PARTS:
        seconds = ms * 1e-3 * slow * (network if group == "communication" else 1.0)
        bound_by = "tensor" if phase == "prefill" and bound == "hbm" else bound
        parts.append(
            PartTime(name, group, seconds, seconds * shown, bound_by, 3e11 * ms, 4e9 * ms, 2e7 * ms, "fit of 24 rows, 4.1 %")
        )
    whole = sum(p.exposed_s for p in parts)
    return StepTime(phase, whole, batch if phase == "decode" else 8192.0, batch, 0.11, 0.48, "hbm", tuple(parts))


def memory() -> tuple[MemoryItem, ...]:
    return (
        MemoryItem("expert weights", int(20.6 * 2**30), "8 experts x 3 x 7168 x 2048 x 1 B x 58 layers"),
        MemoryItem("attention and shared weights", int(16.5 * 2**30), "model card"),
        MemoryItem("KV cache, 642,000 tokens", int(70.2 * 2**30), "61 layers x 576 x 2 B a token"),
        MemoryItem("low-latency buffers", int(7.27 * 2**30), "2 x [dispatch + combine] + counts"),
        MemoryItem("activations", int(3.1 * 2**30), "8,192 rows of a chunk"),
        MemoryItem("runtime", int(4.0 * 2**30), "assumed: CUDA context, graphs and libraries"),
    )


def metric(key: str, words: str, unit: str, value: float, better: str, spread: float) -> Metric:
    """A metric whose 90 % interval reaches ``spread`` below and a little more above."""
    return Metric(
        key,
        words,
        unit,
        value,
        better,
        value * (1 - spread),
        value * (1 - 0.4 * spread),
        value * (1 + 0.5 * spread),
        value * (1 + 1.2 * spread),
    )


def metrics(tpot: float = 0.0241, gpus: int = 64, usd: float = 210.0, batch: float = 128.0) -> tuple[Metric, ...]:
    rate = batch / tpot
    return (
        metric("ttft", "time to first token", "s", 0.84, "low", 0.22),
        metric("tpot", "time per output token", "s", tpot, "low", 0.16),
        metric("tokens_per_s_user", "speed of a user", "tokens/s", 1 / tpot, "high", 0.16),
        metric("requests_per_s", "requests", "requests/s", rate * gpus / 2000, "high", 0.17),
        metric("output_tokens_per_s", "output", "tokens/s", rate * gpus / 2, "high", 0.17),
        metric("output_tokens_per_s_gpu", "output per GPU", "tokens/s", rate / 2, "high", 0.17),
        metric("usd_per_mtok_output", "cost of output", "USD/Mtok", usd / (rate * gpus / 2 * 3600 / 1e6), "low", 0.18),
        Metric("usd_per_hour", "bill", "USD/h", usd, "low", usd, usd, usd, usd),
        metric("mfu", "MFU of decode", "", 0.114, "high", 0.16),
        metric("mbu", "MBU of decode", "", 0.48, "high", 0.16),
        Metric("concurrency", "requests in flight", "", batch * gpus / 2),
    )


SERVING = Serving(
    mode="disaggregated",
    decode=Worker(dp=32, ep=32, batch=128, overlap=True),
    prefill=Worker(dp=16, ep=16, count=2, protocol="high-throughput"),
)
INPUTS = (
    InputRow("model", "layers", "61, of which 58 MoE", "config.json of https://huggingface.co/deepseek-ai/DeepSeek-V3"),
    InputRow("model", "experts", "256, top-8", "config.json of https://huggingface.co/deepseek-ai/DeepSeek-V3"),
    InputRow("gpu", "HBM bandwidth", "4.8 TB/s", "NVIDIA H200 datasheet, 2024-01"),
    InputRow("nic", "line rate", "50 GB/s", "NVIDIA ConnectX-7 datasheet"),
    InputRow("prices", "h200-sxm", "2.50 USD/GPU-h", "made up for tests"),
    InputRow("calibration", "copy throughput per SM", "29.4 GB/s +- 0.8", "fit, 24 rows of ep_comm.csv, residual 4.1 %"),
)
LIMITS = (
    Limit("ttft", "time to first token", 2.0, 0.84, "s", True),
    Limit("tpot", "time per output token", 0.030, 0.0241, "s", True),
)


def evaluation(name: str = "deepseek-v3-h200", network: float = 1.0, batch: float = 128.0, gpus: int = 64) -> Evaluation:
    decode = step("decode", network, batch)
    pools = (
        Pool(
            "prefill",
            "2 x (tp 1, dp 16, ep 16, high-throughput)",
            2,
            gpus // 2,
            memory(),
            141 * 10**9,
            (step("prefill", network),),
        ),
        Pool("decode", "1 x (tp 1, dp 32, ep 32, low-latency)", 1, gpus // 2, memory(), 141 * 10**9, (decode,)),
    )
    numbers = metrics(decode.seconds, gpus, 3.3 * gpus, batch)
    return Evaluation(
        name,
        "DeepSeek-V3 on 64 H200s, made up for tests",
        f"64 H200s decode at {decode.seconds * 1e3:.1f} ms a token and cost $1.12 per million output tokens, made up.",
        "deepseek-v3",
        "h200-cx7",
        gpus,
        SERVING,
        numbers,
        pools,
        {"GPUs": 2.5 * gpus, "power and cooling": 0.21 * gpus, "network": 0.35 * gpus, "hosts": 0.24 * gpus},
        (LIMITS[0], replace(LIMITS[1], got=decode.seconds)),
        ("Routing is uniform: popular experts are not known for this traffic.",),
        ("No row of this system was measured: constants are the H100's.", "The batch (128) is beyond the fitted rows (96)."),
        INPUTS,
        0,
        "0.1.0",
    )


def candidates() -> tuple[Candidate, ...]:
    """A front of eight, then thirty of the rest, in two modes and three protocols."""
    out = [
        Candidate(
            SERVING,
            "h200-cx7",
            64,
            "2 x prefill (dp 16, ep 16, high-throughput) and 1 x decode (dp 32, ep 32, low-latency)",
            {"tpot": 0.0241, "ttft": 0.84, "output_tokens_per_s_gpu": 2650.0, "usd_per_mtok_output": 0.34, "mfu": 0.11},
            True,
            True,
            0.0247,
        )
    ]
    for i in range(7):
        worker = Worker(dp=2 ** (i % 4 + 2), ep=2 ** (i % 4 + 2), batch=8 * 2**i)
        speed = 100 - 13 * i
        rate = 420 * 1.52**i * (0.97 if i == 4 else 1.0)
        words = f"{64 // worker.gpus} x (dp {worker.dp}, ep {worker.ep}, low-latency), batch {worker.batch}"
        values = {"tpot": 1 / speed, "ttft": 0.4 + 0.3 * i, "output_tokens_per_s_gpu": rate, "usd_per_mtok_output": 900 / rate}
        out.append(
            Candidate(Serving(decode=worker), "h200-cx7", 64, words, values, True, speed >= 34, 1.03 / speed if i < 3 else None)
        )
    for i in range(30):
        protocol = ("high-throughput", "low-latency", "one-sided")[i % 3]
        tensor = i % 5 == 0
        worker = Worker(tp=8, ep=8, batch=16 + 8 * i) if tensor else Worker(dp=8, ep=8, protocol=protocol, batch=16 + 8 * i)
        speed = 95 - 2.6 * i
        rate = (320 + 95 * i) * (0.7 + 0.08 * (i % 4))
        values = {"tpot": 1 / speed, "ttft": 0.5 + 0.1 * i, "output_tokens_per_s_gpu": rate, "usd_per_mtok_output": 1000 / rate}
        words = f"8 x ({'tp 8' if tensor else 'dp 8'}, ep 8, {protocol}), batch {worker.batch}"
        out.append(Candidate(Serving(decode=worker), "h200-cx7", 64, words, values, False, speed >= 34))
    return tuple(out)


def plan(possible: bool = True) -> Plan:
    best = replace(evaluation(), name="best") if possible else None
    limits = (
        LIMITS
        if possible
        else (
            Limit(
                "ttft",
                "time to first token",
                0.2,
                0.84,
                "s",
                False,
                "Prefill is bound by tensor cores: 4.2 times the prefill GPUs, or a prefix cache of 77 % of the prompt.",
            ),
            Limit(
                "tpot",
                "time per output token",
                0.008,
                0.0094,
                "s",
                False,
                "Combine is bound by the NIC: 800 Gb/s NICs would bring 7.9 ms.",
            ),
            Limit("gpus", "GPUs", 64, 64, "", True),
        )
    )
    found = candidates() if possible else tuple(replace(c, meets=False) for c in candidates())
    said = (
        "The cheapest is 32 prefill and 32 decode GPUs: 24.1 ms a token, $0.34 per million output tokens, made up for tests."
        if possible
        else "No: the nearest of 21,504 deployments takes 9.4 ms a token where 8 ms were asked, made up for tests."
    )
    return Plan(
        "plan-deepseek-v3-h200",
        "DeepSeek-V3 on 64 H200s, ISL 4000, OSL 1000, made up for tests",
        said,
        21504,
        13120,
        842 if possible else 0,
        best,
        found,
        limits,
        {
            "weights and buffers are more than the HBM": 8384,
            "time per output token above 30 ms": 9210,
            "time to first token above 2 s": 3068,
        },
        ("Confirmed event by event: the best four.",),
        INPUTS,
        0,
        "0.1.0",
    )


def sweep(axes: int = 1) -> Sweep:
    points = []
    if axes == 1:
        points += [SweepPoint((f"{rate} Gb/s",), evaluation(network=400 / rate)) for rate in (100, 200, 400, 800, 1600)]
        points.append(
            SweepPoint(("3200 Gb/s",), None, "no NIC of 3200 Gb/s is in the catalogue: use 1600 Gb/s, or cluster.node.nic")
        )
        paths: tuple[str, ...] = ("cluster.node.nic.bandwidth",)
    else:
        paths = ("deployment.decode.ep", "deployment.decode.batch", "deployment.overlap")[:axes]
        for ep in (8, 16, 32, 64):
            for batch in (16, 64, 128, 256):
                values = (str(ep), str(batch), "true")[:axes]
                if ep == 8 and batch == 256:
                    points.append(SweepPoint(values, None, "KV cache of 256 sequences needs 12.1 GiB more: use batch=184"))
                else:
                    points.append(SweepPoint(values, evaluation(network=0.7 + ep / 64, batch=float(batch))))
    return Sweep(
        "deepseek-v3-h200",
        "made up for tests",
        "Twice the NIC buys 11 % of a token's time, made up for tests.",
        paths,
        tuple(points),
        keys=tuple(dict.fromkeys(m.key for p in points if p.evaluation is not None for m in p.evaluation.metrics)),
        refused=dict(Counter(p.refusal for p in points if p.evaluation is None)),
    )


def comparison() -> Comparison:
    a = evaluation("h200-400g", 1.0)
    b = evaluation("h200-800g", 0.52)
    b = replace(b, inputs=tuple(replace(r, value="100 GB/s") if r.name == "line rate" else r for r in b.inputs))
    changes = (
        Change("cluster.node.nic.bandwidth", "400 Gb/s", "800 Gb/s", {"tpot": -0.1, "usd_per_mtok_output": -0.09}),
        Change("cluster.node.nic.latency", "1.9 us", "1.7 us", {"tpot": -0.012, "usd_per_mtok_output": -0.011}),
        Change("prices.network", "0.35 USD/GPU-h", "0.45 USD/GPU-h", {"usd_per_mtok_output": 0.03}),
    )
    mechanism = "Combine moved most: its rows wait for the NIC, which became twice as wide; attention and experts did not move."
    return Comparison("800 Gb/s NICs make a token 11 % faster and 9 % cheaper, made up for tests.", mechanism, a, b, changes)


def explanation() -> Explanation:
    effects = ((-0.21, 0.24), (-0.041, 0.046), (-0.033, 0.03), (-0.012, 0.014), (0.009, -0.008), (0.0, 0.0))
    names = (
        "HBM bandwidth",
        "NIC bandwidth",
        "NIC message rate",
        "host time a step",
        "launch time of a kernel",
        "NVLink bandwidth",
    )
    found = tuple(
        Sensitivity(
            f"cluster.{name.lower().replace(' ', '_')}",
            name,
            "4.8 TB/s",
            "NVIDIA H200 datasheet, https://www.nvidia.com/h200",
            0.1,
            {"tpot": up, "usd_per_mtok_output": 0.8 * up},
            {"tpot": down, "usd_per_mtok_output": 0.8 * down},
        )
        for name, (up, down) in zip(names, effects, strict=True)
    )
    return Explanation("A token waits for HBM: 10 % more of its bandwidth buys 21 %, made up for tests.", evaluation(), found)


if __name__ == "__main__":
    from epicycle.scenarios import report

    folder = Path(sys.argv[1])
    report.write_plan_report(plan(), folder / "plan.html", COMMAND)
    report.write_plan_report(plan(False), folder / "no.html", COMMAND)
    for axes in (1, 2, 3):
        report.write_sweep_report(sweep(axes), folder / f"sweep{axes}.html", COMMAND)
    report.write_comparison_report(comparison(), folder / "compare.html", COMMAND)
    report.write_explanation_report(explanation(), folder / "explain.html", COMMAND)
