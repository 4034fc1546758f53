"""Production runs that their operators published, predicted blind: nothing in epicycle was fitted to any of them.

Each run is a pool of one kind of worker and the load it was measured under; what the publication leaves out is in ``assumed``.
A prediction far off carries its ``reason``, whose own claims are tests (tests/validate/test_production.py). Rates are tokens a
second: of one node, or of one GPU, as published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...hwmodels.backends import Backend, load_backend
from ...hwmodels.catalog import load_cluster
from ...hwmodels.interval import Interval, interval_of
from ...sim.inputs.deployment import Protocol
from ...sim.inputs.model import load_model
from ...sim.inputs.serving import Backend as EngineName
from ...sim.inputs.serving import Workload
from ...sim.precision import Dtype
from ...sim.serving.deployment import largest_batch
from ...sim.serving.steady import NO_DRAFTS, Setting, Speculation, decode_worker, prefill_worker
from ...sim.step.memory import worker_memory
from ...sim.step.part import Num
from ...sim.step.worker import Arrangement, Precision, Skew


@dataclass(frozen=True, slots=True)
class Run:
    """One published throughput. ``batch``: sequences a GPU decodes (None: what memory holds); ``tpot_s``: given instead of it.

    ``tokens``: a prefill step's tokens on a GPU. ``per``: GPUs that the published rate is of. ``drafts``: how it speculates.
    """

    name: str
    published: float
    per: int
    phase: Literal["decode", "prefill"]
    cluster: str
    nodes: int
    backend: EngineName
    ep: int
    workload: Workload
    protocol: Protocol
    experts: Dtype = "fp8"
    kv: Dtype = "bf16"
    redundant: int = 0
    overlap: bool = False
    batch: float | None = None
    tpot_s: float | None = None
    tokens: int = 16384
    drafts: Speculation = NO_DRAFTS
    assumed: str = ""
    reason: str = ""
    source: str = ""


_SGLANG = "LMSYS, Deploying DeepSeek with PD Disaggregation and Large-Scale Expert Parallelism on 96 H100 GPUs, 2025-05-05"
_GB200 = "LMSYS, Deploying DeepSeek on GB200 NVL72, parts I (2025-06-16) and II (2025-09-25)"
_VLLM = (
    "vLLM, Large Scale Serving: DeepSeek at 2.2k tok/s/H200 with Wide-EP, 2025-12-17 (read off charts), which takes its results"
    " from llm-d 0.3, 2025-10-10; the guide that both name (llm-d, guides/wide-ep-lws)"
)
_DEEPSEEK = "DeepSeek-V3/R1 Inference System Overview, open-source week, 2025-03-01"

_DAY = (
    "the published rate is the day's tokens over the day's mean number of nodes, not a full pool's: DeepSeek's own profile"
    " of this pool (even experts, 4,096 tokens in) runs at 62,713 tokens/s a node, 1.95 times the 32,206 that the service"
    " computed beside its cache hits (LMSYS 2025-05-05)"
)
_IMBALANCE = (
    "experts were uneven, and overlap is taken for too good: with even experts SGLang measured 59,337 instead of 50,302 at 4K,"
    " and two halves gained it 27 to 35 %, since kernels beside an exchange slow each other down; the prediction gains more"
)
_UNEVEN = (
    "how even the experts were is not published: the rate lies between those of balanced and of unbalanced experts (0.11 and"
    " 1.56 more than the mean, TensorRT-LLM); ranks also wait in dummy passes for one another's prompts, which is left out"
)
_EARLY = (
    "an early stack: the post says that many kernels did not reach the GPU's bandwidth yet, and three months later a pool"
    " of the same width and precisions made 9,087 (part II)"
)


def _sglang_prefill(tokens: int, published: float) -> Run:
    return Run(
        f"SGLang H100 prefill EP32, {tokens} in", published, 8, "prefill", "h100-cx7", 4, "sglang", 32,
        Workload(input_tokens=tokens, output_tokens=5), "high-throughput", redundant=32, overlap=True,
        assumed="steps of 16,384 tokens a GPU (published for 4K), two-batch overlap, 32 redundant experts",
        reason=_IMBALANCE, source=_SGLANG,
    )  # fmt: skip


def _vllm_decode(ep: int, published: float) -> Run:
    return Run(
        f"vLLM H200 decode EP{ep}", published, 1, "decode", "h200-cx7", ep // 8, "vllm", ep,
        Workload(input_tokens=2000, output_tokens=2000), "low-latency", batch=256.0, overlap=True,
        redundant=32, assumed="dual-batch overlap, 32 redundant experts and CUDA graphs, as in the guide",
        reason=_UNEVEN, source=_VLLM,
    )  # fmt: skip


def _vllm_prefill(ep: int, published: float) -> Run:
    return Run(
        f"vLLM H200 prefill EP{ep}", published, 1, "prefill", "h200-cx7", max(1, ep // 8), "vllm", ep,
        Workload(input_tokens=2000, output_tokens=5), "high-throughput", redundant=32, tokens=8192,
        assumed="steps of 8,192 tokens a GPU (vLLM's default); no overlap, which llm-d 0.3 names for decoding",
        reason=_UNEVEN, source=_VLLM,
    )  # fmt: skip


RUNS: tuple[Run, ...] = (
    Run(
        "DeepSeek H800 prefill EP32", 73_700.0, 8, "prefill", "h800-cx7", 4, "sglang", 32,
        Workload(input_tokens=4384, output_tokens=1211, cached_input=0.563), "high-throughput", redundant=32, overlap=True,
        assumed="prompts of 4,384 tokens (mean context 4,989 at 3.62 in per out), 56.3 % cached and counted; 16,384 a step",
        reason=_DAY, source=_DEEPSEEK,
    ),
    Run(
        "DeepSeek H800 decode EP144", 14_800.0, 8, "decode", "h800-cx7", 18, "sglang", 144,
        Workload(input_tokens=4384, output_tokens=1211), "low-latency", redundant=32, overlap=True, tpot_s=1.0 / 21.0,
        drafts=Speculation(1, 0.85),
        assumed="the batch at which a user gets 21 tokens/s, in the middle of the 20 to 22 that DeepSeek states; one draft,"
        " accepted at the low end of the 85 to 90 % in DeepSeek-V3's report (5.4.3); LMSYS reads drafts in its profile, the"
        " overview is silent on them, and without any the batch is little more than half",
        source=_DEEPSEEK,
    ),
    _sglang_prefill(1024, 57_674.0),
    _sglang_prefill(2048, 54_543.0),
    _sglang_prefill(4096, 50_302.0),
    Run(
        "SGLang H100 decode EP72", 22_282.0, 8, "decode", "h100-cx7", 9, "sglang", 72,
        Workload(input_tokens=2000, output_tokens=100), "low-latency", redundant=32, overlap=True, batch=256.0,
        assumed="two-batch overlap, 32 redundant experts", source=_SGLANG,
    ),
    Run(
        "SGLang GB200 decode EP48, bf16 attention, fp8 experts", 7_583.0, 1, "decode", "gb200-nvl72", 12, "sglang", 48,
        Workload(input_tokens=2000, output_tokens=100), "low-latency", redundant=32,
        assumed="as many sequences as memory holds, at most 768 a GPU (filled through a slow-down switch); no overlap",
        reason=_EARLY, source=_GB200,
    ),
    Run(
        "SGLang GB200 decode EP48, fp8 attention, fp4 experts", 13_386.0, 1, "decode", "gb200-nvl72", 12, "sglang", 48,
        Workload(input_tokens=2000, output_tokens=100), "low-latency", experts="fp4", kv="fp8", redundant=32, batch=1408.0,
        assumed="1,408 sequences a GPU, as published for 2,000 tokens in; its overlap of the combine alone is left out",
        source=_GB200,
    ),
    Run(
        "SGLang GB200 prefill EP2, fp8 attention, fp4 experts", 26_156.0, 1, "prefill", "gb200-nvl72", 1, "sglang", 2,
        Workload(input_tokens=2000, output_tokens=5), "one-sided", experts="fp4", kv="fp8",
        assumed="two ranks, as published (weights that do not fit come from the host in time); steps of 16,384 tokens a GPU",
        source=_GB200,
    ),
    _vllm_decode(32, 2_181.0),
    _vllm_decode(72, 2_071.0),
    _vllm_decode(96, 1_971.0),
    _vllm_prefill(8, 6_521.0),
    _vllm_prefill(16, 7_017.0),
    _vllm_prefill(32, 5_103.0),
)  # fmt: skip
#: What expert load balancing with 32 replicas leaves of the ranks' imbalance, of the mean, and what they have without it:
#: Scaling Expert Parallelism in TensorRT-LLM (part 1), 288 slots on 32 ranks. Every run is taken to balance its experts.
SKEW, UNBALANCED = Skew(rank_imbalance=0.109), Skew(rank_imbalance=1.564)
#: Sequences a GPU decodes at most where a run says nothing: SGLang's on GB200 at twice the context (part II).
MOST_SEQUENCES = 768.0


@dataclass(frozen=True, slots=True)
class Blind:
    """One run beside its prediction, in its own unit. ``batch``: sequences a GPU decodes. ``band``: factors on the rate."""

    run: Run
    predicted: float
    batch: float
    step_s: float
    band: Interval

    @property
    def error(self) -> float:
        """Predicted over published, less one."""
        return self.predicted / self.run.published - 1.0


def predict_run(run: Run, skew: Skew = SKEW, engine: Backend | None = None) -> Blind:
    """The run's throughput in steady state; ``engine``: instead of the shipped one."""
    model, cluster = load_model("deepseek-v3"), load_cluster(run.cluster, run.nodes)
    backend = engine or load_backend(run.backend)
    precision = Precision("fp8", run.experts, run.kv, "fp8")
    shape = Arrangement(1.0, float(run.ep), 1.0, float(run.ep), run.protocol, 24.0, float(run.redundant), run.overlap)
    load = run.workload
    setting = Setting(model, cluster, precision, backend, load, run.drafts, skew)
    if run.phase == "prefill":
        rates = prefill_worker(setting, shape, float(run.tokens))
        rate = float(rates.requests_per_s) * load.mean_input / run.ep * run.per
        assert rates.prefill is not None
        return Blind(run, rate, 0.0, float(rates.prefill.seconds), _band(run, float(rates.prefill.seconds)))

    def tpot(batch: Num) -> Num:
        return decode_worker(setting, shape, batch).tpot_s

    if run.tpot_s is not None:
        wanted = run.tpot_s
        batch = float(largest_batch(lambda b: np.asarray(tpot(b)) <= wanted, np.asarray(MOST_SEQUENCES)))
    elif run.batch is not None:
        batch = run.batch
    else:
        context = load.mean_input + load.mean_output
        memory = worker_memory(model, shape, precision, cluster, tokens_per_step=MOST_SEQUENCES, context=context)
        batch = min(MOST_SEQUENCES, float(np.asarray(memory.sequences)))
    seconds = float(np.asarray(tpot(batch)))
    return Blind(run, batch / seconds * run.per, batch, seconds, _band(run, seconds))


@dataclass(frozen=True, slots=True)
class Pools:
    """DeepSeek's two pools. ``run``: prefill nodes for a decode node as the day's tokens and each pool's rate have them;
    ``equal``: as the predicted rates of full pools ask for, both in use to the same share; ``prefill_used`` and
    ``decode_used``: the published rates over those of full pools."""

    run: float
    equal: float
    prefill_used: float
    decode_used: float


def pools() -> Pools:
    """The day of DeepSeek's overview: nodes of both pools beside what full ones would do."""
    prefill, decode = (next(run for run in RUNS if run.name.startswith(f"DeepSeek H800 {phase}")) for phase in _PHASES)
    full = [predict_run(run).predicted for run in (prefill, decode)]
    published = _TOKENS_IN / _TOKENS_OUT * decode.published / prefill.published
    equal = _TOKENS_IN / _TOKENS_OUT * full[1] / full[0]
    return Pools(published, equal, prefill.published / full[0], decode.published / full[1])


#: Tokens of that day, the prompts' with their cache hits; its two pools.
_TOKENS_IN, _TOKENS_OUT = 608e9, 168e9
_PHASES = ("prefill", "decode")


def _band(run: Run, seconds: float) -> Interval:
    fit = load_backend(run.backend).fit
    point = {"mean_input": run.workload.mean_input}
    return interval_of(fit.intervals if fit else (), fit.seen if fit else {}, seconds, 1, point)
