"""vLLM's options: what a worker of a deployment is started with, and the worker that a command line describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...hwmodels.errors import BadInput
from ...sim.inputs.serving import Serving, Worker
from . import scheduling
from .option import DEFAULT_WORKER, EngineLacks, Given, Option, Site, compact, is_balanced, only, quantized, takes_part

ENGINE = "vllm"
PROGRAM = ("vllm", "serve")
BACKENDS = {
    "high-throughput": "deepep_high_throughput",
    "low-latency": "deepep_low_latency",
    "elastic": "deepep_v2",
    "nixl-ep": "nixl_ep",
    "mori-ep": "mori_high_throughput",
    "all-gather": "allgather_reducescatter",
    "one-sided": "flashinfer_nvlink_one_sided",
    "two-sided": "flashinfer_nvlink_two_sided",
}
#: vLLM's own exchange where nothing is said.
_DEFAULT_BACKEND = "allgather_reducescatter"
_KV = {"bf16": "bfloat16", "fp8": "fp8", "fp4": "nvfp4"}
_ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}
_RPC_PORT = "13345"


def options(worker: Worker, serving: Serving, site: Site) -> Iterator[Option]:
    """The options of one instance. Raises EngineLacks for what vLLM has no option for."""
    at = f"deployment.{site.role}"
    yield Option("--tensor-parallel-size", str(worker.tp), f"{at}.tp")
    yield Option("--data-parallel-size", str(worker.dp), f"{at}.dp")
    if worker.pp > 1:
        yield Option("--pipeline-parallel-size", str(worker.pp), f"{at}.pp")
    if worker.dcp > 1:
        yield Option("--decode-context-parallel-size", str(worker.dcp), f"{at}.dcp")
    whole = worker.tp * worker.dp
    if worker.ep not in (1, whole):
        raise EngineLacks(
            ENGINE, f"{at}.ep", worker.ep, f"its experts lie on all tp x dp GPUs or on none: use ep={whole} or ep=1"
        )
    if worker.ep > 1:
        yield Option("--enable-expert-parallel", None, f"{at}.ep")
    if takes_part(worker):
        yield from _exchange(worker, at)
    elif worker.overlap:
        raise EngineLacks(
            ENGINE, f"{at}.overlap", "true", "it overlaps the exchange of data-parallel attention: use dp and ep above 1"
        )
    yield from _placement(worker, at)
    if not worker.cuda_graphs:
        yield Option("--enforce-eager", None, f"{at}.cuda_graphs")
    if worker.batch is not None:
        yield Option("--max-num-seqs", str(worker.batch), f"{at}.batch")
    yield Option("--max-num-batched-tokens", str(worker.chunk_tokens), f"{at}.chunk_tokens")
    yield from scheduling.options(ENGINE, worker, serving, at)
    yield Option("--gpu-memory-utilization", f"{serving.memory_share:g}", "deployment.memory_share")
    if serving.kv is not None:
        if serving.kv not in _KV:
            raise EngineLacks(ENGINE, "deployment.kv", serving.kv, f"use one of {', '.join(_KV)}")
        yield Option("--kv-cache-dtype", _KV[serving.kv], "deployment.kv")
    if serving.payload is not None:
        raise EngineLacks(
            ENGINE, "deployment.payload", serving.payload, "its kernels choose the dispatch precision: leave payload out"
        )
    if (name := quantized(ENGINE, serving, site)) is not None:
        yield Option("--quantization", name, "deployment.weights and .experts")
    if serving.mtp:
        drafts = compact({"method": "mtp", "num_speculative_tokens": serving.mtp})
        yield Option("--speculative-config", drafts, "deployment.mtp")
    if serving.mode == "disaggregated":
        transfer = compact({"kv_connector": "NixlConnector", "kv_role": _ROLES[site.role]})
        yield Option("--kv-transfer-config", transfer, "deployment.mode")
    yield from _nodes(worker, site)


def _exchange(worker: Worker, at: str) -> Iterator[Option]:
    if worker.protocol not in BACKENDS:
        raise EngineLacks(ENGINE, f"{at}.protocol", worker.protocol, f"use one of {', '.join(BACKENDS)}")
    yield Option("--all2all-backend", BACKENDS[worker.protocol], f"{at}.protocol")
    if worker.overlap:
        yield Option("--enable-dbo", None, f"{at}.overlap")
    if worker.comm_sms != DEFAULT_WORKER.comm_sms:
        lever = f"leave it at {DEFAULT_WORKER.comm_sms}; with two batches its environment variable VLLM_DBO_COMM_SMS sets it"
        raise EngineLacks(ENGINE, f"{at}.comm_sms", worker.comm_sms, lever)


def _placement(worker: Worker, at: str) -> Iterator[Option]:
    if worker.redundant_experts and not is_balanced(worker):
        raise EngineLacks(ENGINE, f"{at}.placement", worker.placement, "it places copies by load: use placement=balanced")
    if is_balanced(worker):
        yield Option("--enable-eplb", None, f"{at}.placement")
        if worker.redundant_experts:
            copies = compact({"num_redundant_experts": worker.redundant_experts})
            yield Option("--eplb-config", copies, f"{at}.redundant_experts")
    elif worker.placement is not None:
        places = {"contiguous": "linear", "round-robin": "round_robin"}[worker.placement]
        yield Option("--expert-placement-strategy", places, f"{at}.placement")


def _nodes(worker: Worker, site: Site) -> Iterator[Option]:
    nodes, group = site.nodes(worker), worker.tp * worker.pp
    if nodes == 1:
        return
    if worker.dp == 1:
        yield Option("--nnodes", str(nodes), "")
        yield Option("--node-rank", "$NODE_RANK", "")
        yield Option("--master-addr", "$HEAD", "")
        return
    if group > site.node_gpus:
        lever = f"use tp x pp of at most {site.node_gpus}, or dp=1"
        raise EngineLacks(ENGINE, f"deployment.{site.role}.tp", worker.tp, f"a data-parallel rank lies within a node: {lever}")
    here = site.node_gpus // group
    yield Option("--data-parallel-size-local", str(here), "")
    yield Option("--data-parallel-start-rank", f"$((NODE_RANK * {here}))", "")
    yield Option("--data-parallel-address", "$HEAD", "")
    yield Option("--data-parallel-rpc-port", _RPC_PORT, "")


def read(given: Given) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of a worker, and of the whole deployment, that the flags stand for."""
    worker: dict[str, Any] = {
        "tp": given.number("--tensor-parallel-size", 1),
        "dp": given.number("--data-parallel-size", 1),
        "pp": given.number("--pipeline-parallel-size", 1),
        "dcp": given.number("--decode-context-parallel-size", 1),
    }
    whole: dict[str, Any] = {}
    worker["ep"] = worker["tp"] * worker["dp"] if given.switch("--enable-expert-parallel") else 1
    backend = given.word("--all2all-backend")
    if worker["dp"] > 1 and worker["ep"] > 1:
        names = {name: protocol for protocol, name in BACKENDS.items()} | {"naive": "all-gather"}
        if (backend := backend or _DEFAULT_BACKEND) not in names:
            raise BadInput(f"--all2all-backend {backend} is none that epicycle knows: use one of {', '.join(names)}")
        worker["protocol"] = names[backend]
    elif backend is not None:
        given.left["--all2all-backend"] = backend
    if given.switch("--enable-dbo"):
        worker["overlap"] = True
    balanced, copies = given.switch("--enable-eplb"), given.settings("--eplb-config")
    only(copies, ("num_redundant_experts", "window_size", "step_interval"), "--eplb-config")
    redundant = int(copies.get("num_redundant_experts", 0))
    if redundant and not balanced:
        raise BadInput("--eplb-config has num_redundant_experts, which goes with --enable-eplb: add it")
    if redundant:
        worker["redundant_experts"] = redundant
    elif balanced:
        worker["placement"] = "balanced"
    if (strategy := given.word("--expert-placement-strategy")) is not None and not balanced:
        worker["placement"] = {"linear": "contiguous", "round_robin": "round-robin"}[strategy]
    if given.switch("--enforce-eager"):
        worker["cuda_graphs"] = False
    if batch := given.number("--max-num-seqs", 0):
        worker["batch"] = batch
    if chunk := given.number("--max-num-batched-tokens", 0):
        worker["chunk_tokens"] = chunk
    if (memory := given.real("--gpu-memory-utilization")) is not None:
        whole["memory_share"] = memory
    names_of_kv = {name: dtype for dtype, name in _KV.items()} | {"fp8_e4m3": "fp8", "auto": None}
    kv = given.word("--kv-cache-dtype")
    if kv is not None:
        if kv not in names_of_kv:
            raise BadInput(f"--kv-cache-dtype {kv} is none that epicycle knows: use one of {', '.join(names_of_kv)}")
        whole["kv"] = names_of_kv[kv]
    if (name := given.word("--quantization")) is not None:
        if name != "fp8":
            raise BadInput(f"--quantization {name} is none that epicycle reads: write deployment.weights and .experts instead")
        whole |= {"weights": "fp8", "experts": "fp8"}
    drafts = given.settings("--speculative-config")
    only(drafts, ("method", "num_speculative_tokens"), "--speculative-config")
    if drafts:
        if drafts.get("method", "mtp") not in ("mtp", "deepseek_mtp"):
            raise BadInput(f"--speculative-config: epicycle knows the method mtp, got {drafts['method']}")
        whole["mtp"] = int(drafts.get("num_speculative_tokens", 1))
    scheduling.read(ENGINE, given, worker, whole)
    transfer = given.settings("--kv-transfer-config")
    if transfer:
        whole["role"] = {"kv_producer": "prefill", "kv_consumer": "decode"}.get(str(transfer.get("kv_role")), "")
    return worker, whole


#: Flags that change nothing that an answer says.
SILENT = (
    *(
        "--model",
        "--host",
        "--port",
        "--served-model-name",
        "--trust-remote-code",
        "--api-key",
        "--headless",
        "--api-server-count",
    ),
    *("--nnodes", "--node-rank", "--master-addr", "--master-port", "--data-parallel-size-local", "--data-parallel-start-rank"),
    *("--data-parallel-address", "--data-parallel-rpc-port", "--distributed-executor-backend", "--download-dir", "--tokenizer"),
)
