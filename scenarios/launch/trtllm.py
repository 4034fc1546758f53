"""TensorRT-LLM's options, keys of the file that ``trtllm-serve --extra_llm_api_options`` reads. Unchecked against its parser.

Its tensor parallelism counts all GPUs of a stage; attention is data-parallel over all of them or over none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...hwmodels.errors import BadInput
from ...sim.inputs.serving import Serving, Worker
from . import scheduling
from .option import DEFAULT_WORKER, EngineLacks, Given, Option, Site, is_balanced, quantized, takes_part

ENGINE = "trtllm"
PROGRAM = ("trtllm-serve",)
EXCHANGE = "TRTLLM_FORCE_COMM_METHOD"
METHODS = {
    "all-gather": "ALLGATHER",
    "high-throughput": "DEEPEP",
    "low-latency": "DEEPEPLOWLATENCY",
    "one-sided": "NVLINK_ONE_SIDED",
    "two-sided": "NVLINK_TWO_SIDED",
}
_KV = {"fp8": "fp8", "fp4": "nvfp4"}


def options(worker: Worker, serving: Serving, site: Site, experts: int) -> Iterator[Option]:
    """The options of one instance, names of its file's keys with dots. Raises EngineLacks for what there is no option for.

    ``experts`` of the model, to which copies are added as slots.
    """
    at = f"deployment.{site.role}"
    if worker.dp > 1 and worker.tp > 1:
        lever = f"its attention is data-parallel over all GPUs or none: use tp=1 and dp={worker.tp * worker.dp}, or dp=1"
        raise EngineLacks(ENGINE, f"{at}.tp", worker.tp, lever)
    yield Option("tensor_parallel_size", str(worker.tp * worker.dp), f"{at}.tp x dp")
    yield Option("enable_attention_dp", "true" if worker.dp > 1 else "false", f"{at}.dp")
    if worker.pp > 1:
        yield Option("pipeline_parallel_size", str(worker.pp), f"{at}.pp")
    yield Option("moe_expert_parallel_size", str(worker.ep), f"{at}.ep")
    if takes_part(worker):
        if worker.protocol not in METHODS:
            raise EngineLacks(ENGINE, f"{at}.protocol", worker.protocol, f"use one of {', '.join(METHODS)}")
        yield Option(EXCHANGE, METHODS[worker.protocol], f"{at}.protocol")
        if worker.comm_sms != DEFAULT_WORKER.comm_sms:
            lever = f"its kernels choose: leave it at {DEFAULT_WORKER.comm_sms}"
            raise EngineLacks(ENGINE, f"{at}.comm_sms", worker.comm_sms, lever)
    if worker.overlap:
        raise EngineLacks(ENGINE, f"{at}.overlap", "true", "it has no two-batch overlap: use overlap=false")
    if serving.payload is not None:
        raise EngineLacks(
            ENGINE, "deployment.payload", serving.payload, "its kernels choose the dispatch precision: leave it out"
        )
    if worker.placement == "round-robin" or (is_balanced(worker) and not worker.redundant_experts):
        raise EngineLacks(ENGINE, f"{at}.placement", worker.placement, "it balances with copies alone: set redundant_experts")
    if worker.redundant_experts:
        yield Option("moe_config.load_balancer.num_slots", str(experts + worker.redundant_experts), f"{at}.redundant_experts")
    if not worker.cuda_graphs:
        yield Option("cuda_graph_config", "null", f"{at}.cuda_graphs")
    if worker.batch is not None:
        yield Option("max_batch_size", str(worker.batch), f"{at}.batch")
        if worker.cuda_graphs:
            yield Option("cuda_graph_config.max_batch_size", str(worker.batch), f"{at}.batch")
    yield Option("max_num_tokens", str(worker.chunk_tokens), f"{at}.chunk_tokens")
    yield Option("enable_chunked_prefill", "true", f"{at}.chunk_tokens")
    yield from scheduling.options(ENGINE, worker, serving, at)
    yield Option("kv_cache_config.free_gpu_memory_fraction", f"{serving.memory_share:g}", "deployment.memory_share")
    if serving.kv is not None and serving.kv != "bf16":
        if serving.kv not in _KV:
            raise EngineLacks(ENGINE, "deployment.kv", serving.kv, f"use one of bf16, {', '.join(_KV)}")
        yield Option("kv_cache_config.dtype", _KV[serving.kv], "deployment.kv")
    if quantized(ENGINE, serving, site) is not None:
        raise EngineLacks(
            ENGINE, "deployment.experts", "fp8", "it loads what is stored: name such a checkpoint with --checkpoint"
        )
    if serving.mtp:
        yield Option("speculative_config.decoding_type", "MTP", "deployment.mtp")
        yield Option("speculative_config.num_nextn_predict_layers", str(serving.mtp), "deployment.mtp")
    if serving.mode == "disaggregated":
        yield Option("cache_transceiver_config.backend", "DEFAULT", "deployment.mode")


def read(given: Given, experts: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of a worker, and of the whole deployment, that the options stand for. ``experts``: 0 if not known."""

    def either(key: str, flag: str, default: int) -> int:
        return given.number(key, given.number(flag, default))

    gpus = either("tensor_parallel_size", "--tp_size", 1)
    spread = given.word("enable_attention_dp") == "true"
    worker: dict[str, Any] = {"tp": 1 if spread else gpus, "dp": gpus if spread else 1}
    worker["pp"] = either("pipeline_parallel_size", "--pp_size", 1)
    worker["ep"] = either("moe_expert_parallel_size", "--ep_size", 1)
    whole: dict[str, Any] = {}
    if (method := given.word(EXCHANGE)) is not None:
        worker["protocol"] = {name: protocol for protocol, name in METHODS.items()}[method]
    if slots := given.number("moe_config.load_balancer.num_slots", 0):
        if not experts:
            raise BadInput(
                "moe_config.load_balancer.num_slots: how many are copies depends on the model: write redundant_experts"
            )
        worker["redundant_experts"] = slots - experts
    if "cuda_graph_config" in given.left:
        given.word("cuda_graph_config")
        worker["cuda_graphs"] = False
    given.word("cuda_graph_config.max_batch_size")
    if batch := either("max_batch_size", "--max_batch_size", 0):
        worker["batch"] = batch
    if chunk := either("max_num_tokens", "--max_num_tokens", 0):
        worker["chunk_tokens"] = chunk
    given.word("enable_chunked_prefill")
    memory = given.real("kv_cache_config.free_gpu_memory_fraction") or given.real("--kv_cache_free_gpu_memory_fraction")
    if memory is not None:
        whole["memory_share"] = memory
    if (kv := given.word("kv_cache_config.dtype")) not in (None, "auto"):
        whole["kv"] = {name: dtype for dtype, name in _KV.items()}[str(kv)]
    scheduling.read(ENGINE, given, worker, whole)
    given.word("speculative_config.decoding_type")
    if drafts := given.number("speculative_config.num_nextn_predict_layers", 0):
        whole["mtp"] = drafts
    given.word("cache_transceiver_config.backend")
    return worker, whole


def nested(options: Mapping[str, str]) -> dict[str, Any]:
    """Options with dots in their names, as the file nests them; values as YAML reads them."""
    tree: dict[str, Any] = {}
    for name, value in options.items():
        *path, last = name.split(".")
        at = tree
        for key in path:
            at = at.setdefault(key, {})
        at[last] = {"true": True, "false": False, "null": None}.get(value, value)
        for kind in (int, float):
            try:
                at[last] = kind(value)
                break
            except ValueError:
                continue
    return tree


def flat(tree: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """What `nested` made, with dots again."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}{key}.")
        elif value is None or isinstance(value, bool):
            found[f"{path}{key}"] = "null" if value is None else "true" if value else "false"
        else:
            found[f"{path}{key}"] = str(value)
    return found


#: Flags that change nothing that an answer says.
SILENT = ("--host", "--port", "--backend", "--tokenizer", "--trust_remote_code", "--max_seq_len", "--extra_llm_api_options")
