"""SGLang's options: what a worker of a deployment is started with, and the worker that a command line describes.

SGLang's tensor parallelism counts all GPUs of a stage; attention in groups inside it is ``--attn-dp-size``, and batch and chunk
are the sum over those groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...hwmodels.errors import BadInput
from ...sim.inputs.serving import Serving, Worker
from . import scheduling
from .option import DEFAULT_WORKER, EngineLacks, Given, Option, Site, compact, is_balanced, only, quantized, takes_part

ENGINE = "sglang"
PROGRAM = ("python3", "-m", "sglang.launch_server")
#: Protocol -> backend, DeepEP's mode in a prefill pool or none, and where the same worker decodes.
_DEEPEP = {"high-throughput": "normal", "low-latency": "auto"}
#: Exchanges that SGLang takes from other libraries.
_OTHERS = {"nixl-ep": "nixl", "mori-ep": "mori", "flashinfer-one-sided": "flashinfer", "mega-moe": "megamoe"}
_KV = {"bf16": "bf16", "fp8": "fp8_e4m3", "fp4": "nvfp4"}
_PAYLOADS = ("bf16", "fp8")
_INIT_PORT = "20000"


def options(worker: Worker, serving: Serving, site: Site) -> Iterator[Option]:
    """The options of one instance. Raises EngineLacks for what SGLang has no option for."""
    at = f"deployment.{site.role}"
    yield Option("--tp-size", str(worker.tp * worker.dp), f"{at}.tp x dp")
    if worker.dp > 1:
        yield Option("--attn-dp-size", str(worker.dp), f"{at}.dp")
    if worker.pp > 1:
        yield Option("--pp-size", str(worker.pp), f"{at}.pp")
    if worker.dcp > 1:
        yield Option("--dcp-size", str(worker.dcp), f"{at}.dcp")
    yield Option("--ep-size", str(worker.ep), f"{at}.ep")
    if takes_part(worker):
        yield from _exchange(worker, serving, site, at)
    elif serving.payload is not None:
        raise EngineLacks(
            ENGINE, "deployment.payload", serving.payload, "no exchange dispatches without dp and ep above 1: leave it out"
        )
    if worker.overlap:
        yield Option("--enable-two-batch-overlap", None, f"{at}.overlap")
    yield from _placement(worker, at)
    if not worker.cuda_graphs:
        yield Option("--disable-decode-cuda-graph", None, f"{at}.cuda_graphs")
    if worker.batch is not None:
        yield Option("--max-running-requests", str(worker.batch * worker.dp), f"{at}.batch x dp")
        if worker.cuda_graphs and site.role == "decode":
            yield Option("--cuda-graph-max-bs-decode", str(worker.batch), f"{at}.batch")
    yield Option("--chunked-prefill-size", str(worker.chunk_tokens * worker.dp), f"{at}.chunk_tokens x dp")
    yield from scheduling.options(ENGINE, worker, serving, at)
    yield Option("--mem-fraction-static", f"{serving.memory_share:g}", "deployment.memory_share")
    if serving.kv is not None:
        if serving.kv not in _KV:
            raise EngineLacks(ENGINE, "deployment.kv", serving.kv, f"use one of {', '.join(_KV)}")
        yield Option("--kv-cache-dtype", _KV[serving.kv], "deployment.kv")
    if (name := quantized(ENGINE, serving, site)) is not None:
        yield Option("--quantization", name, "deployment.weights and .experts")
    if serving.mtp:
        yield Option("--speculative-algorithm", "NEXTN", "deployment.mtp")
        yield Option("--speculative-num-steps", str(serving.mtp), "deployment.mtp")
        yield Option("--speculative-eagle-topk", "1", "deployment.mtp")
        yield Option("--speculative-num-draft-tokens", str(serving.mtp + 1), "deployment.mtp + 1")
    if serving.mode == "disaggregated":
        yield Option("--disaggregation-mode", site.role, "deployment.mode")
    if (nodes := site.nodes(worker)) > 1:
        yield Option("--nnodes", str(nodes), "")
        yield Option("--node-rank", "$NODE_RANK", "")
        yield Option("--dist-init-addr", f"$HEAD:{_INIT_PORT}", "")


def _exchange(worker: Worker, serving: Serving, site: Site, at: str) -> Iterator[Option]:
    known = (*_DEEPEP, *_OTHERS, "elastic", "all-gather")
    if worker.protocol not in known:
        raise EngineLacks(ENGINE, f"{at}.protocol", worker.protocol, f"use one of {', '.join(known)}")
    if worker.protocol == "elastic":
        yield Option("--moe-a2a-backend", "deepep_v2", f"{at}.protocol")
        yield Option("--deepep-v2-mode", "hybrid" if site.nodes(worker) > 1 else "direct", f"{at}.protocol")
    elif worker.protocol in _OTHERS:
        yield Option("--moe-a2a-backend", _OTHERS[worker.protocol], f"{at}.protocol")
    elif worker.protocol == "all-gather":
        yield Option("--moe-a2a-backend", "none", f"{at}.protocol")
    else:
        if worker.ep != worker.tp * worker.dp:
            lever = f"with DeepEP its experts lie on all GPUs of a stage: use ep={worker.tp * worker.dp}"
            raise EngineLacks(ENGINE, f"{at}.ep", worker.ep, lever)
        yield Option("--moe-a2a-backend", "deepep", f"{at}.protocol")
        mode = _DEEPEP[worker.protocol]
        if mode == "auto" and serving.mode == "disaggregated":
            mode = "low_latency"
        yield Option("--deepep-mode", mode, f"{at}.protocol")
    if worker.comm_sms != DEFAULT_WORKER.comm_sms:
        if worker.protocol != "high-throughput":
            raise EngineLacks(
                ENGINE, f"{at}.comm_sms", worker.comm_sms, f"of high-throughput alone: leave it at {DEFAULT_WORKER.comm_sms}"
            )
        sms = {"num_sms": worker.comm_sms}
        yield Option("--deepep-config", compact({"normal_dispatch": sms, "normal_combine": sms}), f"{at}.comm_sms")
    if serving.payload is not None:
        if worker.protocol not in _DEEPEP or serving.payload not in _PAYLOADS:
            lever = f"DeepEP carries {' or '.join(_PAYLOADS)}: leave payload out"
            raise EngineLacks(ENGINE, "deployment.payload", serving.payload, lever)
        yield Option("--deepep-dispatcher-output-dtype", serving.payload, "deployment.payload")


def _placement(worker: Worker, at: str) -> Iterator[Option]:
    if worker.placement == "round-robin":
        raise EngineLacks(ENGINE, f"{at}.placement", worker.placement, "use contiguous or balanced")
    if worker.redundant_experts:
        yield Option("--ep-num-redundant-experts", str(worker.redundant_experts), f"{at}.redundant_experts")
    if is_balanced(worker):
        yield Option("--enable-eplb", None, f"{at}.placement")
    elif worker.placement == "contiguous":
        yield Option("--init-expert-location", "trivial", f"{at}.placement")


def read(given: Given) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of a worker, and of the whole deployment, that the flags stand for."""
    all_gpus = given.number("--tp-size", 1)
    whole: dict[str, Any] = {}
    dp = given.number("--attn-dp-size", 1)
    if given.switch("--enable-dp-attention"):  # the older spelling: the groups are then counted by --dp-size
        dp = given.number("--dp-size", 1)
    elif (replicas := given.number("--dp-size", 1)) > 1:
        raise BadInput(
            f"--dp-size {replicas} without --enable-dp-attention starts whole copies: write deployment.decode.count={replicas}"
        )
    if all_gpus % dp:
        raise BadInput(f"--tp-size ({all_gpus}) must be a multiple of the data-parallel attention groups ({dp})")
    worker: dict[str, Any] = {"tp": all_gpus // dp, "dp": dp, "pp": given.number("--pp-size", 1)}
    worker["dcp"] = given.number("--dcp-size", 1)
    worker["ep"] = given.number("--ep-size", 1)
    backend, mode = given.word("--moe-a2a-backend") or "none", given.word("--deepep-mode")
    if backend == "deepep":  # DeepEP's experts lie on all GPUs, whatever --ep-size says
        worker["ep"] = all_gpus
    if dp > 1 and worker["ep"] > 1:
        named = {
            "none": "all-gather",
            "deepep_v2": "elastic",
            **{option: name for name, option in _OTHERS.items()},
            "deepep": "high-throughput" if mode == "normal" else "low-latency",
        }
        if backend not in named:
            raise BadInput(f"--moe-a2a-backend {backend} is none that epicycle knows: use one of {', '.join(named)}")
        worker["protocol"] = named[backend]
    given.word("--deepep-v2-mode")
    sms = given.settings("--deepep-config")
    only(sms, ("normal_dispatch", "normal_combine"), "--deepep-config")
    if sms:
        worker["comm_sms"] = int(sms["normal_dispatch"]["num_sms"])
    if given.switch("--enable-two-batch-overlap"):
        worker["overlap"] = True
    balanced = given.switch("--enable-eplb")
    if copies := given.number("--ep-num-redundant-experts", 0):
        worker["redundant_experts"] = copies
    location = given.word("--init-expert-location")
    if location not in (None, "trivial"):
        raise BadInput(f"--init-expert-location {location}: a placement of its own is not known to epicycle: use --enable-eplb")
    if balanced and not copies:
        worker["placement"] = "balanced"
    elif (copies or location is not None) and not balanced:
        worker["placement"] = "contiguous"
    if given.switch("--disable-decode-cuda-graph") | given.switch("--disable-cuda-graph"):
        worker["cuda_graphs"] = False
    given.word("--cuda-graph-max-bs-decode")
    for name, key in (("--max-running-requests", "batch"), ("--chunked-prefill-size", "chunk_tokens")):
        if (total := given.number(name, 0)) > 0:
            worker[key] = max(1, total // dp)
    if (memory := given.real("--mem-fraction-static")) is not None:
        whole["memory_share"] = memory
    if (kv := given.word("--kv-cache-dtype")) is not None:
        names = {name: dtype for dtype, name in _KV.items()} | {"bfloat16": "bf16", "auto": None}
        if kv not in names:
            raise BadInput(f"--kv-cache-dtype {kv} is none that epicycle knows: use one of {', '.join(names)}")
        whole["kv"] = names[kv]
    if (payload := given.word("--deepep-dispatcher-output-dtype")) not in (None, "auto"):
        whole["payload"] = payload
    if (name_of := given.word("--quantization")) is not None:
        if name_of != "fp8":
            raise BadInput(
                f"--quantization {name_of} is none that epicycle reads: write deployment.weights and .experts instead"
            )
        whole |= {"weights": "fp8", "experts": "fp8"}
    if (drafting := given.word("--speculative-algorithm")) is not None:
        if drafting not in ("NEXTN", "EAGLE"):
            raise BadInput(f"--speculative-algorithm {drafting} is none that epicycle knows: use NEXTN")
        if (branches := given.number("--speculative-eagle-topk", 1)) != 1:
            raise BadInput(f"--speculative-eagle-topk {branches}: a tree of drafts is not known to epicycle, use 1")
        whole["mtp"] = given.number("--speculative-num-steps", 1)
        given.number("--speculative-num-draft-tokens", 0)
    scheduling.read(ENGINE, given, worker, whole)
    if (role := given.word("--disaggregation-mode")) not in (None, "null"):
        whole["role"] = role
    return worker, whole


#: Flags that change nothing that an answer says.
SILENT = (
    *("--model-path", "--host", "--port", "--served-model-name", "--trust-remote-code", "--api-key", "--nnodes", "--node-rank"),
    *("--dist-init-addr", "--tokenizer-path", "--log-level", "--disaggregation-transfer-backend", "--disaggregation-ib-device"),
    *("--disaggregation-bootstrap-port", "--watchdog-timeout", "--enable-metrics"),
)
