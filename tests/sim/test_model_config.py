"""Models: presets against the published config files, arithmetic against published sizes, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epicycle.hwmodels.errors import BadInput, UnknownKey, UnknownName
from epicycle.sim.inputs.model import MoeModel, from_hf_config, load_model, model_names, with_overrides

CONFIGS = Path(__file__).parents[3] / "shared" / "models"
PRESET_OF = {
    "DeepSeek-R1": "deepseek-r1",
    "DeepSeek-V3": "deepseek-v3",
    "DeepSeek-V3.2": "deepseek-v3.2",
    "DeepSeek-V4-Pro": "deepseek-v4-pro",
    "GLM-5": "glm-5",
    "Kimi-K2-Instruct": "kimi-k2",
    "Llama-4-Maverick-17B-128E-Instruct": "llama-4-maverick",
    "Meta-Llama-3.1-70B": "llama-3.1-70b",
    "Meta-Llama-3.1-8B": "llama-3.1-8b",
    "MiniMax-M2.5": "minimax-m2.5",
    "Mixtral-8x7B-v0.1": "mixtral-8x7b",
    "Qwen3-235B-A22B": "qwen3-235b-a22b",
    "Qwen3-30B-A3B": "qwen3-30b-a3b",
    "Qwen3-32B": "qwen3-32b",
    "Qwen3.5-397B-A17B": "qwen3.5-397b-a17b",
    "gpt-oss-120b": "gpt-oss-120b",
}
#: Published configs of models that have no preset: billions of parameters in all, as their cards print them.
TOTAL_OF = {
    "DeepSeek-V4-Flash": 284,
    "DeepSeek-V4-Flash-NVFP4": 284,
    "Kimi-K2.5": 1026,
    "MiniMax-M3": 427,
    "Qwen3-0.6B": 0.6,
}


def _facts(model: MoeModel) -> dict[str, object]:
    return model.model_dump(exclude={"name", "sources"})


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the published config files are not here")
def test_every_published_config_is_read_as_its_preset_says() -> None:
    found = {path.stem for path in CONFIGS.glob("*.json")}
    assert found <= {*PRESET_OF, *TOTAL_OF}
    for stem in found & set(TOTAL_OF):
        assert load_model(CONFIGS / f"{stem}.json").total_params / 1e9 == pytest.approx(TOTAL_OF[stem], rel=0.01), stem
    for stem in found & set(PRESET_OF):
        assert _facts(from_hf_config(CONFIGS / f"{stem}.json")) == _facts(load_model(PRESET_OF[stem])), stem


@pytest.mark.parametrize("name", model_names())
def test_every_preset_loads_under_its_own_name_with_sources(name: str) -> None:
    model = load_model(name)
    assert model.name == name
    assert all(model.sources.values())


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [  # billions of parameters as the model cards print them
        ("deepseek-v3", 671, 37),
        ("deepseek-r1", 671, 37),
        ("kimi-k2", 1026, 32.6),  # its report prints 1.04 T with its norms and rounding
        ("qwen3-235b-a22b", 235, 22),
        ("qwen3-30b-a3b", 30.5, 3.3),
        ("qwen3-32b", 32.8, 32.8),
        ("qwen3.5-397b-a17b", 397, 17),
        ("mixtral-8x7b", 46.7, 12.9),
        ("gpt-oss-120b", 116.8, 5.7),  # its card counts 5.1 active: embeddings are left out there
        ("glm-5", 744, 41),
        ("minimax-m2.5", 229, 11),
        ("llama-4-maverick", 400, 17),
        ("llama-3.1-70b", 70.6, 70.6),
        ("llama-3.1-8b", 8.03, 8.03),
    ],
)
def test_sizes_add_up_to_the_published_ones(name: str, total: float, active: float) -> None:
    model = load_model(name)
    assert model.total_params / 1e9 == pytest.approx(total, rel=0.005)
    assert model.active_params / 1e9 == pytest.approx(active, rel=0.04)


@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [  # Insights into DeepSeek-V3 (arXiv 2505.09343), table 1: bf16 bytes per token
        ("deepseek-v3", 70_272),
        ("llama-3.1-8b", 131_072),  # 128 KiB
        ("deepseek-v3.2", 70_272 + 61 * 132),  # and an FP8 index key with its scale
        ("gpt-oss-120b", 36_864),
    ],
)
def test_cache_bytes_per_token(name: str, kv_bytes: int) -> None:
    assert load_model(name).kv_bytes_per_token("bf16") == kv_bytes


def test_fp8_halves_the_cache() -> None:
    model = load_model("deepseek-v3")
    assert model.kv_bytes_per_token("fp8") * 2 == model.kv_bytes_per_token()
    assert model.kv_bytes(4096) == 4096 * 70_272


def test_windows_and_states_stop_growing() -> None:
    gpt_oss = load_model("gpt-oss-120b")
    window = 18 * 2 * 8 * 64 * 2 * 128
    assert gpt_oss.kv_bytes(100_000) == 100_000 * 36_864 + window
    hybrid = load_model("qwen3.5-397b-a17b")
    state = hybrid.kv_bytes(0)
    assert state > 45 * 64 * 128 * 128 * 4
    assert hybrid.kv_bytes(1000) == state + 1000 * hybrid.kv_bytes_per_token()


def test_expert_weights() -> None:
    model = load_model("deepseek-v3")
    assert (model.moe_layers, model.dense_layers) == (58, 3)
    assert model.expert_params == 3 * 7168 * 2048
    assert model.total_expert_params == 58 * 256 * model.expert_params
    assert model.expert_bytes("bf16") == 2 * model.expert_params
    assert model.expert_bytes() == model.expert_params + 4 * model.expert_params / 128**2
    assert model.expert_bytes("fp4") == model.expert_params * 9 / 16


def test_interleaved_and_dense_models() -> None:
    assert load_model("llama-4-maverick").moe_layers == 24
    dense = load_model("llama-3.1-8b")
    assert (dense.experts, dense.moe_layers, dense.dense_layers, dense.total_expert_params) == (0, 0, 32, 0)


def test_the_articles_two_presets() -> None:
    toy = load_model("anatomy-toy")
    assert (toy.experts, toy.top_k, toy.hidden) == (16, 2, 7168)
    eight = with_overrides(toy, {"experts": 8})
    assert eight.experts == 8
    assert eight.sources["experts"] == "set by the user"
    assert toy.experts == 16


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"experts": 20}, "use expert_groups=1, or experts=16"),
        ({"experts": 4}, "top_k (8) must lie within 1 and experts (4)"),
        ({"experts": 0}, "a dense model"),
        ({"top_k": 300}, "must lie within 1 and experts (256)"),
        ({"top_k": 0}, "must lie within 1"),
        ({"groups_kept": 9}, "exceeds expert_groups (8)"),
        ({"groups_kept": 1, "experts": 16}, "exceeds the 2 experts"),
        ({"layers": 60}, "make them agree"),
        ({"first_dense_layers": 62}, "beyond layers"),
        ({"shared_experts": 0}, "go together"),
        ({"hidden": 0}, "hidden"),
        ({"hidden": "wide"}, "hidden"),
        ({"weight_dtype": "fp6"}, "'bf16', 'fp8' or 'fp4'"),
        ({"expert": 8}, "did you mean 'experts'"),
        ({"name": "x"}, "no key 'name'"),
    ],
)
def test_a_wrong_override_is_one_line_with_a_lever(changes: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        with_overrides(load_model("deepseek-v3"), changes)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert issubclass(UnknownKey, BadInput)


@pytest.mark.parametrize(
    ("wrong", "right"), [("deepseek-v33", "deepseek-v3"), ("DeepSeek_V3", "deepseek-v3"), ("mixtral", "mixtral-8x7b")]
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(UnknownName, match=f"did you mean '{right}'.*epicycle catalog models"):
        load_model(wrong)


def _config(tmp_path: Path, **fields: object) -> Path:
    mixtral = {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in {**mixtral, **fields}.items() if value is not None}))
    return path


def test_a_path_to_a_config_or_its_folder_is_a_model(tmp_path: Path) -> None:
    path = _config(tmp_path)
    assert load_model(path) == load_model(tmp_path) == load_model(str(path))
    assert load_model(path).name == tmp_path.name
    assert load_model(path).experts == 8


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"hidden_size": None, "vocab_size": None}, "hidden_size: wanted a whole number from 1, the file has none"),
        ({"hidden_size": "4096"}, "hidden_size: wanted a whole number, got '4096'"),
        ({"intermediate_size": None}, "intermediate_size: wanted a whole number from 1, the file has none"),
        ({"num_experts_per_tok": None}, "num_experts_per_tok: wanted a whole number from 1, the file has none"),
        ({"num_experts_per_tok": 9}, "top_k (9) must lie within 1 and experts (8)"),
        ({"layer_types": ["full_attention"]}, "layer_types: lists 1 layers, num_hidden_layers says 32"),
        ({"layer_types": ["mystery"] * 32}, "layers of kind 'mystery' are none of full_attention"),
        ({"mlp_only_layers": [3, 7]}, "mlp_only_layers: may speak of the model's structure"),
        (
            {
                "model_type": "deepseek_v3",
                "architectures": ["DeepseekV3ForCausalLM"],
                "kv_lora_rank": 512,
                "moe_intermediate_size": 2048,
            },
            "qk_rope_head_dim: wanted",
        ),
        ({"compress_ratios": [4] * 32}, "compress_ratios: may speak of the model's structure"),
        (
            {"model_type": "deepseek_v4", "sliding_window": 8, "head_dim": 8, "qk_rope_head_dim": 8, "q_lora_rank": 8},
            "o_groups: wanted",
        ),
        (
            {"model_type": "qwen3_moe", "moe_intermediate_size": 8, "decoder_sparse_step": "two"},
            "decoder_sparse_step: wanted a whole number, got 'two'",
        ),
        ({"text_config": "none"}, "text_config: wanted an object"),
        ({"n_group": "x"}, "n_group: may speak"),
    ],
)
def test_an_unreadable_config_is_one_line(tmp_path: Path, fields: dict[str, object], says: str) -> None:
    path = _config(tmp_path, **fields)
    with pytest.raises(BadInput) as refusal:
        load_model(path)
    assert says in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\ufeff{}"])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"config\.json"):
        load_model(path)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_model("/no/such/config.json")


@pytest.mark.parametrize(
    ("name", "heads", "norms"),
    [("llama-3.1-8b", 8, 65), ("deepseek-v3", 1, 123), ("qwen3.5-397b-a17b", 2, 121), ("nemotron-3-super", 2, 89)],
)
def test_kv_heads_and_norms(name: str, heads: int, norms: int) -> None:
    model = load_model(name)
    assert (model.kv_heads, model.norms) == (heads, norms)


# NVIDIA-Nemotron-3-Nano-30B-A3B's published config.json.
NANO = {
    "architectures": ["NemotronHForCausalLM"],
    "model_type": "nemotron_h",
    "conv_kernel": 4,
    "head_dim": 128,
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "intermediate_size": 1856,
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "max_position_embeddings": 262144,
    "mlp_hidden_act": "relu2",
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "n_groups": 8,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 52,
    "num_key_value_heads": 2,
    "ssm_state_size": 128,
    "vocab_size": 131072,
}


def _write(tmp_path: Path, config: dict[str, object]) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return path


def test_a_hybrid_of_single_blocks(tmp_path: Path) -> None:
    nano = load_model(_write(tmp_path, NANO))
    assert (nano.layers, nano.moe_layers, nano.dense_layers, nano.bare_layers) == (29, 23, 0, 6)
    assert nano.total_params / 1e9 == pytest.approx(31.6, rel=0.005)  # its card: 31.6 B, 3.6 B active
    assert nano.active_params / 1e9 == pytest.approx(3.6, rel=0.02)
    assert nano.kv_bytes_per_token() == 6 * 2 * 2 * 128 * 2
    listed = [{"M": "mamba", "*": "attention", "E": "moe"}[letter] for letter in str(NANO["hybrid_override_pattern"])]
    other = {k: v for k, v in NANO.items() if k not in ("hybrid_override_pattern", "num_hidden_layers")}
    assert load_model(_write(tmp_path, {**other, "layers_block_type": listed})) == nano


def test_nemotron_super_has_the_published_size() -> None:
    model = load_model("nemotron-3-super")  # its card: 120.6 B, 12.7 B active
    assert model.total_params / 1e9 == pytest.approx(120.6, rel=0.002)
    assert model.active_params / 1e9 == pytest.approx(12.7, rel=0.01)
    assert model.expert_params == 2 * 1024 * 2688


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hybrid_override_pattern": "MEX"}, "layers of kind X are none of mamba, attention, mlp, moe"),
        ({"hybrid_override_pattern": ""}, "wanted letters such as M*-E"),
        ({"hybrid_override_pattern": "ME"}, "num_hidden_layers: says 52, the pattern lists 2 layers"),
        ({"hybrid_override_pattern": "MEEE", "num_hidden_layers": None}, "more feed-forward layers (3) than mixers (1)"),
        ({"ssm_state_size": None}, "ssm_state_size: wanted a whole number from 1"),
    ],
)
def test_an_unreadable_hybrid_is_one_line(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        load_model(_write(tmp_path, {**NANO, **changes}))
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


QWEN2_7B = {
    "model_type": "qwen2",
    "num_hidden_layers": 28,
    "hidden_size": 3584,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 131072,
    "sliding_window": 131072,
    "use_sliding_window": False,
}
GLM_4_5 = {
    "model_type": "glm4_moe",
    "num_hidden_layers": 92,
    "hidden_size": 5120,
    "num_attention_heads": 96,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "n_routed_experts": 160,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
    "n_group": 1,
    "topk_group": 1,
    "num_nextn_predict_layers": 1,
    "vocab_size": 151552,
    "max_position_embeddings": 131072,
}


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [(QWEN2_7B, 7.6, 7.6), (GLM_4_5, 355, 32)],  # as their cards print them
)
def test_close_relatives(tmp_path: Path, config: dict[str, object], total: float, active: float) -> None:
    model = load_model(_write(tmp_path, config))
    assert model.total_params / 1e9 == pytest.approx(total, rel=0.01)
    assert model.active_params / 1e9 == pytest.approx(active, rel=0.06)
    assert {kind.kind for kind in model.attention} == {"gqa"}


@pytest.mark.parametrize(
    ("quantised", "weights", "experts"),
    [
        (None, "bf16", "bf16"),
        ({"quant_method": "fp8"}, "fp8", "fp8"),
        ({"quant_method": "mxfp4"}, "bf16", "fp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["*self_attn*"]}, "bf16", "fp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", "fp8"),
        (
            {
                "quant_method": "compressed-tensors",
                "ignore": ["re:.*self_attn.*"],
                "config_groups": {"g": {"weights": {"num_bits": 4}}},
            },
            "bf16",
            "fp4",
        ),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8}}}}, "fp8", "fp8"),
    ],
)
def test_stored_precision(tmp_path: Path, quantised: dict[str, object] | None, weights: str, experts: str) -> None:
    model = load_model(_config(tmp_path, quantization_config=quantised))
    assert (model.weight_dtype, model.expert_dtype) == (weights, experts)


def test_a_dense_model_of_four_bits_is_all_fp4(tmp_path: Path) -> None:
    assert (
        load_model(_write(tmp_path, {**QWEN2_7B, "quantization_config": {"quant_method": "awq", "bits": 4}})).weight_dtype
        == "fp4"
    )


def test_interleaved_windows(tmp_path: Path) -> None:
    model = load_model(
        _write(tmp_path, {**QWEN2_7B, "use_sliding_window": True, "sliding_window": 512, "sliding_window_pattern": 6})
    )
    assert {kind.kind: kind.layers for kind in model.attention} == {"sliding": 24, "gqa": 4}


def test_a_pruned_model_is_one_override_away() -> None:
    qwen = load_model("qwen3-30b-a3b")
    smaller = with_overrides(qwen, {"experts": 35})
    assert smaller.active_params == qwen.active_params - qwen.hidden * (128 - 35) * qwen.moe_layers  # the router's rows
