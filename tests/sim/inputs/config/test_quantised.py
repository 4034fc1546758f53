"""How checkpoints say what their weights are stored in: every method's rules, kind by kind, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.inputs.model import MoeModel, load_model, with_overrides
from epicycle.sim.inputs.serving import Serving
from epicycle.sim.step.weights import stage_weights
from epicycle.sim.step.worker import Arrangement, Precision, precision_of

Read = Callable[..., MoeModel]

#: A model with every kind of weights: latent attention, a dense layer, shared experts.
LITE: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 6,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "vocab_size": 1000,
    "intermediate_size": 1024,
    "moe_intermediate_size": 128,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 2,
    "q_lora_rank": 64,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
}
ALL_BUT_HEAD = ("lm_head",)
NVFP4 = {"num_bits": 4, "type": "float", "group_size": 16, "strategy": "tensor_group", "dynamic": False}
FP8_CHANNEL = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
INT4 = {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}


def _groups(*groups: dict[str, Any], ignore: tuple[str, ...] = ALL_BUT_HEAD, **more: Any) -> dict[str, Any]:
    table = {f"group_{number}": group for number, group in enumerate(groups)}
    return {"quant_method": "compressed-tensors", "config_groups": table, "ignore": list(ignore), **more}


def _linear(weights: dict[str, Any], *targets: str, **more: Any) -> dict[str, Any]:
    return {"targets": list(targets or ("Linear",)), "weights": weights, "input_activations": None, **more}


#: quantization_config -> formats of attention, dense MLPs, shared experts, routed experts and head.
VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "fp8 blocks": ({"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}, "fp8 fp8 fp8 fp8 bf16"),
    "fp8 of whole tensors": ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8c fp8c fp8c fp8c bf16"),
    "fp8, attention left": (
        {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["self_attn", "lm_head"]},
        "bf16 fp8 fp8 fp8 bf16",
    ),
    "fp8, shared experts left": (
        {"quant_method": "fp8", "weight_block_size": [128, 128], "ignored_layers": ["shared_experts"]},
        "fp8 fp8 bf16 fp8 bf16",
    ),
    "fbgemm": ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, "fp8c fp8c fp8c fp8c bf16"),
    "mxfp4": (
        {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
        "bf16 bf16 bf16 mxfp4 bf16",
    ),
    "w4afp8": ({"quant_method": "w4afp8", "activation_scheme": "dynamic"}, "fp8 fp8 fp8 int4_128 bf16"),
    "awq": (
        {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
        "int4_128 int4_128 int4_128 int4_128 bf16",
    ),
    "awq, groups of 64, attention left": (
        {"quant_method": "awq", "bits": 4, "group_size": 64, "modules_to_not_convert": ["self_attn"]},
        "bf16 int4_64 int4_64 int4_64 bf16",
    ),
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True, "lm_head": False},
        "int4_128 int4_128 int4_128 int4_128 bf16",
    ),
    "gptq of 8 bits by column": ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8 int8 int8 int8 bf16"),
    "gptq, attention left by pattern": (
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*self_attn.*": {}}},
        "bf16 int4_128 int4_128 int4_128 bf16",
    ),
    "auto-round": (
        {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True},
        "int4_128 int4_128 int4_128 int4_128 bf16",
    ),
    "bitsandbytes of 8 bits": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8 int8 int8 int8 bf16"),
    "bitsandbytes of 4 bits": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4 nf4 nf4 nf4 bf16"),
    "modelopt fp8": ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8c fp8c fp8c fp8c bf16"),
    "modelopt nvfp4": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]},
        "nvfp4 nvfp4 nvfp4 nvfp4 bf16",
    ),
    "modelopt nvfp4, attention excluded": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["*self_attn*", "*mlp.gate", "lm_head"]},
        "bf16 nvfp4 nvfp4 nvfp4 bf16",
    ),
    "modelopt, every layer's attention listed": (
        {
            "quant_algo": "NVFP4",
            "quant_method": "modelopt",
            "ignore": [f"model.layers.{n}.self_attn*" for n in range(6)],
            "config_groups": {"group_0": _linear(NVFP4)},
        },
        "bf16 nvfp4 nvfp4 nvfp4 bf16",
    ),
    "modelopt awq": (
        {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": 128},
        "int4_128 int4_128 int4_128 int4_128 bf16",
    ),
    "modelopt mixed": (
        {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {
                **{f"model.layers.{n}.self_attn.o_proj": {"quant_algo": "FP8"} for n in range(6)},
                **{f"model.layers.{n}.mlp.experts.0.up_proj": {"quant_algo": "NVFP4", "group_size": 16} for n in range(2, 6)},
            },
        },
        "fp8c bf16 bf16 nvfp4 bf16",
    ),
    "compressed-tensors nvfp4": (_groups(_linear(NVFP4), format="nvfp4-pack-quantized"), "nvfp4 nvfp4 nvfp4 nvfp4 bf16"),
    "compressed-tensors fp8": (_groups(_linear(FP8_CHANNEL), format="float-quantized"), "fp8c fp8c fp8c fp8c bf16"),
    "compressed-tensors w4a16, experts only": (
        _groups(
            _linear(INT4), ignore=("lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|down)_proj.*")
        ),
        "bf16 bf16 bf16 int4_128 bf16",
    ),
    "compressed-tensors by group": (
        _groups(_linear(FP8_CHANNEL, "re:.*self_attn.*"), _linear(NVFP4, "re:.*experts.*")),
        "fp8c bf16 nvfp4 nvfp4 bf16",
    ),
    "compressed-tensors int8": (
        _groups(_linear({"num_bits": 8, "type": "int", "strategy": "channel"})),
        "int8 int8 int8 int8 bf16",
    ),
    "compressed-tensors mxfp4": (
        _groups(
            _linear({"num_bits": 4, "type": "float", "group_size": 32, "strategy": "group"}), format="mxfp4-pack-quantized"
        ),
        "mxfp4 mxfp4 mxfp4 mxfp4 bf16",
    ),
    "quark": (
        {
            "quant_method": "quark",
            "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}},
            "layer_quant_config": {"*self_attn*": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_channel"}}},
            "exclude": ["lm_head", "re:.*shared_experts.*"],
        },
        "fp8c mxfp4 bf16 mxfp4 bf16",
    ),
    "torchao by its old name": ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "int8 int8 int8 int8 bf16"),
    "torchao fp8": (
        {
            "quant_method": "torchao",
            "quant_type": {"default": {"_type": "Float8DynamicActivationFloat8WeightConfig", "_data": {}}},
        },
        "fp8c fp8c fp8c fp8c bf16",
    ),
    "mlx, the router apart": (
        {"group_size": 64, "bits": 4, "model.layers.2.mlp.gate": {"group_size": 64, "bits": 8}, "lm_head": False},
        "int4g64 int4g64 int4g64 int4g64 bf16",
    ),
}
#: The short names above -> name and bits of a weight as stored.
NAMED = {
    "bf16": ("bf16", 16.0),
    "fp8": ("fp8", 8 + 32 / 128**2),
    "fp8c": ("fp8 channel", 8.0),
    "mxfp4": ("mxfp4", 4.25),
    "nvfp4": ("nvfp4", 4.5),
    "int8": ("int8", 8.0),
    "nf4": ("nf4", 4.5),
    "int4_128": ("int4 g128", 4.125),
    "int4_64": ("int4 g64", 4.25),
    "int4g64": ("int4 g64", 4.5),  # mlx keeps a bias beside the scale
}


@pytest.mark.parametrize("name", VARIANTS)
def test_formats_by_kind(name: str, read: Read) -> None:
    config, wanted = VARIANTS[name]
    model = read({**LITE, "quantization" if name.startswith("mlx") else "quantization_config": config})
    found = [(form.name, form.bits) for _, form in model.formats.formats()]
    assert found == [NAMED[word] for word in wanted.split()]
    assert model.unused == ()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"quant_method": "hqq"}, "quant_method: 'hqq' is none of auto-round, awq"),
        ({"quant_method": 4}, "quant_method: wanted a string, got 4"),
        ({}, "quant_method: null is none of"),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "bits: 3 bits have no kernel here"),
        ({"quant_method": "awq", "bits": "four"}, "bits: wanted a whole number, got 'four'"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*mlp.*": {"bits": 8}}}, "dynamic: '+:.*mlp.*'"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP3"}, "quant_algo: 'NVFP3' is none of FP8"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "quantized_layers: MIXED_PRECISION wants"),
        (
            {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "INT2"},
            "kv_cache_quant_algo: 'INT2' is none of",
        ),
        (_groups(_linear({"num_bits": 2, "type": "int", "strategy": "group"})), "num_bits: 2-bit int"),
        (_groups(_linear(NVFP4), ignore=("re:(",)), "is no regular expression"),
        (_groups({"targets": ["Linear"]}), "config_groups: 'group_0': wanted an object with weights"),
        ({"quant_method": "bitsandbytes"}, "one of load_in_4bit and load_in_8bit must be true"),
        ({"quant_method": "torchao", "quant_type": "uintx"}, "quant_type: 'uintx' is none of"),
        ({"quant_method": "fp8", "some_layers_apart": {"a": 1}}, "some_layers_apart: is a rule of quantisation"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp6"}}}, "dtype: 'fp6' is none of"),
    ],
)
def test_what_is_not_described_is_refused_in_one_line(config: dict[str, Any], says: str, read: Read) -> None:
    with pytest.raises(BadInput) as refusal:
        read({**LITE, "quantization_config": config})
    assert says in str(refusal.value)
    assert "config.json: quantization_config: " in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_a_few_layers_left_wide_are_shared_out(read: Read) -> None:
    left = {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["model.layers.0.self_attn*", "lm_head"]}
    attention = read({**LITE, "quantization_config": left}).formats.attention
    assert (attention.dtype, attention.name) == ("fp4", "83 % nvfp4")
    assert attention.bits == pytest.approx((5 * 4.5 + 16) / 6)


def test_modelopts_file_beside_is_read(read: Read) -> None:
    beside = {
        "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16, "exclude_modules": ["lm_head"]}
    }
    model = read(LITE, hf_quant_config__json={"producer": {"name": "modelopt"}, **beside})
    assert (model.formats.experts.name, model.formats.kv) == ("nvfp4", "fp8")
    assert precision_of(model, Serving.model_construct(experts=None, payload=None, weights=None, kv=None)).kv == "fp8"
    with pytest.raises(BadInput, match=r"hf_quant_config\.json: layers: is no part"):
        read(LITE, hf_quant_config__json={**beside, "layers": []})


def test_four_bit_checkpoints_fit_where_wider_ones_do_not(read: Read) -> None:
    one = Arrangement(1.0, 1.0, 1.0, 1.0)

    def stored(config: dict[str, Any] | None) -> dict[str, float]:
        model = read({**LITE, **({"quantization_config": config} if config else {})})
        precision = precision_of(model, Serving.model_construct(experts=None, payload=None, weights=None, kv=None))
        return {name: float(size) for name, size in stage_weights(model, one, precision, 0).items()}

    wide = stored(None)
    for name, (config, wanted) in VARIANTS.items():
        if name.startswith("mlx"):
            continue
        attention, dense, shared, experts, _ = (NAMED[word][1] for word in wanted.split())
        narrow = stored(config)
        assert narrow["attention weights"] == pytest.approx(wide["attention weights"] * attention / 16), name
        assert narrow["routed expert weights"] == pytest.approx(wide["routed expert weights"] * experts / 16), name
        both = (2 * 3 * 256 * 1024 * dense + 4 * 3 * 256 * 128 * shared) / 8
        assert narrow["dense and shared MLP weights"] == pytest.approx(both), name
        assert narrow["router weights"] == wide["router weights"], name


def test_bytes_of_a_stage_are_those_the_sentence_states() -> None:
    for name in ("deepseek-v3", "gpt-oss-120b", "qwen3.5-397b-a17b", "llama-3.1-8b", "nemotron-3-super"):
        model = load_model(name)
        precision = Precision(model.weight_dtype, model.expert_dtype, "bf16", "fp8", model.formats)
        weights = stage_weights(model, Arrangement(1.0, 1.0, 1.0, 1.0), precision, 0)
        assert sum(map(float, weights.values())) == pytest.approx(model.stored_bytes, rel=1e-9), name


def test_asking_for_another_precision_replaces_what_is_stored(read: Read) -> None:
    config, _ = VARIANTS["w4afp8"]
    model = read({**LITE, "quantization_config": config})
    asked = precision_of(model, Serving.model_construct(experts="bf16", payload=None, weights=None, kv="fp8"))
    assert (asked.of("experts").name, asked.of("attention").name, asked.kv) == ("bf16", "fp8", "fp8")
    wider = with_overrides(model, {"weight_dtype": "bf16"})
    assert wider.stored is None
    assert wider.formats.attention.name == "bf16"
