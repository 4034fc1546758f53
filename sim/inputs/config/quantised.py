"""How a checkpoint is quantised: its method's rules, asked for every linear layer, as one format for each kind of weights."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..stored import KINDS, Format, Kind, Stored, named
from .document import read_object, shown
from .keys import Keys
from .methods import BF16, METHODS, Rule, kv_of
from .modules import Module, modules

#: Keys of quantisation configs that do not change how a weight is stored.
_HARMLESS = """
quant_method producer version checkpoint_format meta backend provider damp_percent desc_act static_groups
true_sequential sym zero_point activation_scheme fmt scale_fmt quantization_status global_compression_ratio
damp_auto_increment model_name_or_path model_file_base_name is_marlin_format autoround_version iters nsamples seqlen
batch_size data_type enable_quanted_input dataset lr minmax_lr low_gpu_mem_usage enable_minmax_tuning packing_format
exllama_config do_fuse quant_type_kwargs activation_scale_ub export algo_config softmax_quant_spec quant_mode
kv_cache_post_rope include_input_output_embeddings untie_embedding_weights quantizer amp gradient_accumulate_steps
super_bits super_group_size to_quant_block_names enable_norm_bias_tuning dequantize use_cuda_fp16 lm_head
fuse_max_seq_len has_zero_point pre_quant_scale min_layer
"""


@dataclass(frozen=True, slots=True)
class Quantised:
    """``formats`` of every kind; ``unused``: keys of the quantisation config that say nothing read here."""

    formats: Stored
    unused: tuple[str, ...] = ()


def stored_of(keys: Keys, beside: Path, facts: dict[str, Any]) -> Quantised | None:
    """The formats that config.json, or ModelOpt's hf_quant_config.json ``beside`` it, names; None where neither does.

    Raises BadInput for a method, an algorithm or a rule that nothing here describes.
    """
    own = keys.table("quantization_config", "compression_config")
    mlx = keys.table("quantization")
    other = _beside(beside)
    expert = keys.word("expert_dtype")
    if own is None and mlx is None and other is None:
        if expert in (None, "bf16", "bfloat16"):
            return None
        keys.refuse("expert_dtype", f"{shown(expert)}, but no quantization_config says how the rest is stored")
    table = own or mlx or other
    assert table is not None
    method = _method(table, mlx is table, other is table)
    rule, kv = METHODS[method](table)
    formats = _by_kind(rule, modules(facts))
    if expert is not None:
        if expert not in ("fp4", "fp8", "bf16"):
            keys.refuse("expert_dtype", f"wanted bf16, fp8 or fp4, got {shown(expert)}")
        # DeepSeek-V4's fp4 experts have one power of two per 32 values: mxfp4; ModelOpt's copy says nvfp4 itself.
        if formats["experts"].dtype != expert:
            formats["experts"] = named({"fp4": "mxfp4", "fp8": "fp8", "bf16": "bf16"}[expert])
    if other is not None and other is not table:
        kv = kv or kv_of(other)
    return Quantised(Stored(**formats, kv=kv), tuple(f"quantization: {key}" for key in _left(table)))


def _beside(path: Path) -> Keys | None:
    if not path.exists():
        return None
    whole = Keys(read_object(path), str(path))
    whole.ignore("producer")
    found = whole.table("quantization")
    for key in whole.left():
        whole.refuse(key, "is no part of an hf_quant_config.json that this reads")
    return found


def _method(table: Keys, mlx: bool, beside: bool) -> str:
    if beside:
        return "modelopt"
    method = table.word("quant_method")
    if table.has("qformat_weight"):
        return "mistral"
    if mlx or (method is None and table.has("bits") and table.has("group_size")):
        return "mlx"
    if method is None and table.has("quant_algo"):
        return "modelopt"
    lowered = (method or "").lower().replace("_", "-")
    lowered = {"compressed-tensors": "compressed-tensors", "modelopt-fp4": "modelopt", "modelopt-mixed": "modelopt"}.get(
        lowered, lowered
    )
    if lowered == "fp8" and table.has("quantized_layers", "moe_quant_algo"):
        return "modelopt"
    if lowered not in METHODS:
        table.refuse(
            "quant_method", f"{shown(method)} is none of {', '.join(sorted(METHODS))}: serve another checkpoint of the model"
        )
    return lowered


def _by_kind(rule: Rule, found: list[Module]) -> dict[Kind, Format]:
    """One format a kind: the one that most of its weights have, with the mean bits of all."""
    weights: dict[Kind, dict[Format, float]] = defaultdict(lambda: defaultdict(float))
    for module in found:
        weights[module.kind][rule(module)] += module.weight
    formats: dict[Kind, Format] = {}
    for kind in KINDS:
        of_kind = weights.get(kind)
        if not of_kind:
            formats[kind] = formats.get("attention", BF16)  # the model has none of this kind
            continue
        most = max(of_kind, key=lambda form: of_kind[form])
        mean = sum(form.bits * weight for form, weight in of_kind.items()) / sum(of_kind.values())
        share = of_kind[most] / sum(of_kind.values())
        formats[kind] = most if share > 0.9999 else Format(name=f"{100 * share:.0f} % {most.name}", dtype=most.dtype, bits=mean)
    return formats


def _left(keys: Keys) -> list[str]:
    """Keys that a method did not read. Raises BadInput for one that may say of a layer how it is stored."""
    keys.ignore(*_HARMLESS.split())
    left = keys.left()
    for key, value in left.items():
        if value not in ({}, [], False, ""):
            keys.refuse(key, "is a rule of quantisation that this does not read")
    return sorted(left)
