"""Shapes of published models as their config files give them, and the sizes that their cards or weight files print.

Each entry: the config (what is inert in any family left out), billions of parameters in all, bytes of bf16 KV cache a token
(None: no growing cache is stated apart), and whether the ``transformers`` oracle has the family under this ``model_type``.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Published(NamedTuple):
    """``total``: billions of parameters of the language model. ``kv``: bytes a token. ``oracle``: transformers counts it
    too.
    """

    config: dict[str, Any]
    total: float
    kv: float
    oracle: bool = True


def _config(model_type: str, layers: int, hidden: int, heads: int, kv: int | None, vocab: int, **more: Any) -> dict[str, Any]:
    table = {"model_type": model_type, "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads}
    table |= {"vocab_size": vocab, "max_position_embeddings": 131_072, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-6}
    return {**table, **({} if kv is None else {"num_key_value_heads": kv}), **more}


def _every(count: int, step: int, full: str = "full_attention", other: str = "sliding_attention") -> list[str]:
    return [full if (layer + 1) % step == 0 else other for layer in range(count)]


_MLA = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
_STEP35 = ["full_attention" if layer % 4 == 0 else "sliding_attention" for layer in range(48)]
_JAMBA = {"attn_layer_offset": 4, "attn_layer_period": 8, "expert_layer_offset": 1, "expert_layer_period": 2, "mamba_d_conv": 4}
_JAMBA |= {"mamba_d_state": 16, "mamba_expand": 2, "num_experts": 16, "num_experts_per_tok": 2, "use_mamba_kernels": True}
_GRANITE4 = {"mamba_d_conv": 4, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_expand": 2, "mamba_n_groups": 1}
_GRANITE4 |= {"mamba_chunk_size": 256, "mamba_conv_bias": True, "mamba_proj_bias": False, "tie_word_embeddings": True}
_KIMI_K3 = {"full_attn_layers": [*range(4, 93, 4), 93], "kda_layers": [n for n in range(1, 93) if n % 4], "head_dim": 128}
_KIMI_K3 |= {"num_heads": 96, "short_conv_kernel_size": 4, "use_full_rank_gate": True, "gate_lower_bound": -5.0}
_LING3 = {"layer_group_size": 6, "short_conv_kernel_size": 4, "kda_safe_gate": True, "kda_lower_bound": -5, "no_kda_lora": True}

PUBLISHED: dict[str, Published] = {
    "DeepSeek-V2-Lite": Published(
        _config(
            "deepseek_v2", 27, 2048, 16, 16, 102_400, intermediate_size=10_944, moe_intermediate_size=1408, n_routed_experts=64,
            n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1, moe_layer_freq=1, q_lora_rank=None, n_group=1,
            topk_group=1, **_MLA,
        ),
        15.7, 27 * 1152,
    ),
    "GLM-4.7-Flash": Published(
        _config(
            "glm4_moe_lite", 47, 2048, 20, 20, 154_880, intermediate_size=10_240, moe_intermediate_size=1536,
            n_routed_experts=64, n_shared_experts=1, num_experts_per_tok=4, first_k_dense_replace=1, q_lora_rank=768,
            kv_lora_rank=512, qk_nope_head_dim=192, qk_rope_head_dim=64, v_head_dim=256, n_group=1, topk_group=1,
            num_nextn_predict_layers=1,
        ),
        29.9, 47 * 1152,
    ),
    "GLM-5.2": Published(
        _config(
            "glm_moe_dsa", 78, 6144, 64, 64, 154_880, intermediate_size=12_288, moe_intermediate_size=2048,
            n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3, moe_layer_freq=1,
            q_lora_rank=2048, kv_lora_rank=512, qk_nope_head_dim=192, qk_rope_head_dim=64, qk_head_dim=256, v_head_dim=256,
            head_dim=192, n_group=1, topk_group=1, index_head_dim=128, index_n_heads=32, index_topk=2048, index_topk_freq=4,
            index_skip_topk_offset=3, index_topk_pattern=None, index_share_for_mtp_iteration=True,
            indexer_types=["shared" if max(layer - 2, 0) % 4 else "full" for layer in range(78)],
            mlp_layer_types=["dense"] * 3 + ["sparse"] * 75, num_nextn_predict_layers=1,
        ),
        743.4, 78 * 1152 + 21 * 132,
    ),
    "GLM-4.5-Air": Published(
        _config(
            "glm4_moe", 46, 4096, 96, 8, 151_552, head_dim=128, intermediate_size=10_944, moe_intermediate_size=1408,
            n_routed_experts=128, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=1, n_group=1, topk_group=1,
            num_nextn_predict_layers=1,
        ),
        106.8, 46 * 4096,
    ),
    "Qwen1.5-MoE-A2.7B": Published(
        _config(
            "qwen2_moe", 24, 2048, 16, 16, 151_936, intermediate_size=5632, moe_intermediate_size=1408, num_experts=60,
            shared_expert_intermediate_size=5632, num_experts_per_tok=4, decoder_sparse_step=1, use_sliding_window=False,
            sliding_window=32_768, max_window_layers=21, mlp_only_layers=[],
        ),
        14.3, 24 * 8192,
    ),
    "Qwen3-Coder-480B-A35B": Published(
        _config(
            "qwen3_moe", 62, 6144, 96, 8, 151_936, head_dim=128, intermediate_size=8192, moe_intermediate_size=2560,
            num_experts=160, num_experts_per_tok=8, decoder_sparse_step=1, mlp_only_layers=[], qkv_bias=False,
            shared_expert_intermediate_size=0,
        ),
        480.2, 62 * 4096,
    ),
    "Jamba-Large-1.5": Published(
        _config("jamba", 72, 8192, 64, 8, 65_536, intermediate_size=24_576, mamba_dt_rank=512, **_JAMBA), 398.6, 9 * 4096
    ),
    "ERNIE-4.5-21B-A3B": Published(
        _config(
            "ernie4_5_moe", 28, 2560, 20, 4, 103_424, intermediate_size=12_288, moe_intermediate_size=1536, moe_num_experts=64,
            moe_k=6, moe_num_shared_experts=2, moe_layer_start_index=1, moe_layer_end_index=29, moe_layer_interval=1,
            moe_capacity=[64, 64, 64], moe_gate="topk", tie_word_embeddings=True, use_bias=False,
        ),
        21.8, 28 * 2048,
    ),
    "Hunyuan-A13B": Published(
        _config(
            "hunyuan_v1_moe", 32, 4096, 32, 8, 128_167, head_dim=128, attention_head_dim=128, intermediate_size=3072,
            moe_intermediate_size=[3072] * 32, num_experts=64, moe_topk=[8] * 32, num_shared_expert=[1] * 32, use_cla=False,
            cla_share_factor=2, use_mixed_mlp_moe=True, moe_layer_num_skipped=0, tie_word_embeddings=True,
            moe_drop_tokens=False, norm_type="rms", org_vocab_size=128_167, use_mla=False, kv_lora_rank=None,
            routed_scaling_factor=False, n_group=False, topk_group=False, group_limited_greedy=False,
        ),
        80.4, 32 * 4096, oracle=False,
    ),
    "Hunyuan-Large": Published(
        _config(
            "hunyuan", 64, 6400, 80, 8, 129_024, architectures=["HunYuanForCausalLM"], attention_head_dim=80, use_cla=True,
            intermediate_size=18_304, num_experts=16, moe_topk=1, num_shared_expert=1, cla_share_factor=2,
            use_mixed_mlp_moe=True, tie_word_embeddings=True,
        ),
        389, 32 * 2560, oracle=False,
    ),
    "LongCat-Flash": Published(
        {
            "architectures": ["LongcatFlashForCausalLM"], "model_type": "longcat_flash", "hidden_size": 6144, "num_layers": 28,
            "ffn_hidden_size": 12_288, "expert_ffn_hidden_size": 2048, "num_attention_heads": 64, "q_lora_rank": 1536,
            "n_routed_experts": 512, "zero_expert_num": 256, "zero_expert_type": "identity", "moe_topk": 12,
            "mla_scale_q_lora": True, "mla_scale_kv_lora": True, "routed_scaling_factor": 6.0, "attention_method": "MLA",
            "router_bias": False, "vocab_size": 131_072, "max_position_embeddings": 131_072, "torch_dtype": "bfloat16", **_MLA,
        },
        561.9, 56 * 1152, oracle=False,  # transformers' gate and up projections count the experts that do nothing
    ),
    "Step-3.5-Flash": Published(
        _config(
            "step3p5", 45, 4096, 64, None, 128_896, architectures=["Step3p5ForCausalLM"], num_attention_groups=8, head_dim=128,
            intermediate_size=11_264, use_moe=True, moe_num_experts=288, moe_top_k=8, moe_intermediate_size=1280,
            share_expert_dim=1280, moe_layer_offset=0, moe_every_n_layer=1, layer_types=_STEP35, sliding_window=512,
            moe_layers_enum=",".join(map(str, range(3, 45))), use_head_wise_attn_gate=True, num_nextn_predict_layers=3,
            attention_other_setting={
                "attention_type": "sliding_attention", "num_attention_heads": 96, "num_attention_groups": 8, "head_dim": 128,
                "true_head_dim": 128,
            },
            use_moe_router_bias=True, moe_router_activation="sigmoid", moe_router_scaling_factor=3.0, need_fp32_gate=True,
            norm_expert_weight=True, att_impl_type="GQA", use_qk_norm=True, sink=False, partial_rotary_factors=[0.5] * 48,
            yarn_only_types=["full_attention"], rope_theta=[5e6] * 48, swiglu_limits=[0.0] * 48, zero_centered=True,
        ),
        196.6, 12 * 4096, oracle=False,
    ),
    "Ling-mini-2.0": Published(
        _config(
            "bailing_moe", 20, 2048, 16, 4, 157_184, architectures=["BailingMoeV2ForCausalLM"], head_dim=128, num_experts=256,
            intermediate_size=5120, moe_intermediate_size=512, moe_shared_expert_intermediate_size=512, num_experts_per_tok=8,
            num_shared_experts=1, first_k_dense_replace=1, n_group=8, topk_group=4, num_nextn_predict_layers=0,
            use_qk_norm=True, use_qkv_bias=False, score_function="sigmoid", moe_router_enable_expert_bias=True, norm_head=False,
        ),
        16.3, 20 * 2048, oracle=False,
    ),
    "Ling-1T": Published(
        _config(
            "bailing_moe", 80, 8192, 64, 8, 157_184, architectures=["BailingMoeV2ForCausalLM"], head_dim=128, num_experts=256,
            intermediate_size=18_432, moe_intermediate_size=2048, moe_shared_expert_intermediate_size=2048,
            num_experts_per_tok=8, num_shared_experts=1, first_k_dense_replace=4, n_group=8, topk_group=4,
        ),
        1000, 80 * 4096, oracle=False,
    ),
    "Ring-mini-linear-2.0": Published(
        _config(
            "bailing_moe_linear", 20, 2048, 16, 4, 157_184, architectures=["BailingMoeLinearV2ForCausalLM"], head_dim=128,
            intermediate_size=5120, moe_intermediate_size=512, moe_shared_expert_intermediate_size=512, num_experts=256,
            num_experts_per_tok=8, num_shared_experts=1, first_k_dense_replace=1, n_group=8, topk_group=4, layer_group_size=5,
            group_norm_size=4, linear_silu=False, num_nextn_predict_layers=0, use_qk_norm=True,
        ),
        16.4, 4 * 2048, oracle=False,
    ),
    "Ling-3.0-flash": Published(
        _config(
            "bailing_hybrid", 42, 2560, 32, 32, 157_184, architectures=["BailingMoeV3ForCausalLM"], head_dim=128,
            intermediate_size=6144, moe_intermediate_size=768, num_experts=512, num_experts_per_tok=8, num_shared_experts=1,
            first_k_dense_replace=2, n_group=8, topk_group=4, q_lora_rank=None, num_nextn_predict_layers=1, **_LING3, **_MLA,
        ),
        124.4, 7 * 1152,
    ),
    "grok-1": Published(
        _config(
            "grok-1", 64, 6144, 48, 8, 131_072, architectures=["Grok1ModelForCausalLM"], intermediate_size=32_768, num_experts=8,
            num_experts_per_tok=2, max_attn_value=30.0, attn_output_multiplier=0.088, embedding_multiplier_scale=78.38,
            output_multiplier_scale=0.577,
        ),
        314, 64 * 4096, oracle=False,
    ),
    "OLMoE-1B-7B": Published(
        _config(
            "olmoe", 16, 2048, 16, 16, 50_304, intermediate_size=1024, num_experts=64, num_experts_per_tok=8, clip_qkv=None,
            norm_topk_prob=False,
        ),
        6.92, 16 * 8192,
    ),
    "FlexOlmo-7x7B-1T": Published(
        _config("flex_olmo", 32, 4096, 32, 32, 100_352, intermediate_size=11_008, num_experts=7, num_experts_per_tok=7),
        33.3, 32 * 16_384,
    ),
    "granite-3.1-3b-a800m": Published(
        _config(
            "granitemoe", 32, 1536, 24, 8, 49_155, intermediate_size=512, num_local_experts=40, num_experts_per_tok=8,
            tie_word_embeddings=True, attention_multiplier=0.015625, embedding_multiplier=12.0, logits_scaling=6.0,
        ),
        3.30, 32 * 2048,
    ),
    "granite-4.0-h-small": Published(
        _config(
            "granitemoehybrid", 40, 4096, 32, 8, 100_352, intermediate_size=768, num_local_experts=72, num_experts_per_tok=10,
            shared_intermediate_size=1536, mamba_n_heads=128, position_embedding_type="nope",
            layer_types=["attention" if layer in (5, 15, 25, 35) else "mamba" for layer in range(40)], **_GRANITE4,
        ),
        32.2, 4 * 4096,
    ),
    "granite-4.0-h-1b": Published(
        _config(
            "granitemoehybrid", 40, 1536, 12, 4, 100_352, intermediate_size=4096, num_local_experts=0, num_experts_per_tok=0,
            shared_intermediate_size=4096, mamba_n_heads=48, position_embedding_type="nope",
            layer_types=["attention" if layer in (5, 15, 25, 35) else "mamba" for layer in range(40)], **_GRANITE4,
        ),
        1.46, 4 * 2048,
    ),
    "Phi-3.5-MoE": Published(
        _config(
            "phimoe", 32, 4096, 32, 8, 32_064, architectures=["PhiMoEForCausalLM"], intermediate_size=6400, num_local_experts=16,
            num_experts_per_tok=2, sliding_window=131_072, lm_head_bias=True, attention_bias=True,
        ),
        41.9, 32 * 4096,
    ),
    "dbrx": Published(
        {
            "architectures": ["DbrxForCausalLM"], "model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40,
            "max_seq_len": 32_768, "vocab_size": 100_352, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
            "attn_config": {"clip_qkv": 8, "kv_n_heads": 8, "model_type": "", "rope_theta": 500_000},
            "ffn_config": {
                "ffn_hidden_size": 10_752, "model_type": "", "moe_jitter_eps": 0.01, "moe_loss_weight": 0.05,
                "moe_num_experts": 16, "moe_top_k": 4,
            },
        },
        131.6, 40 * 4096, oracle=False,
    ),
    "snowflake-arctic": Published(
        _config(
            "arctic", 35, 7168, 56, 8, 32_000, architectures=["ArcticForCausalLM"], intermediate_size=4864, num_local_experts=128,
            num_experts_per_tok=2, moe_layer_frequency=1, parallel_attn_mlp_res=True, use_residual=True, moe_min_capacity=0,
            moe_token_dropping=False, moe_eval_capacity_factor=1, moe_train_capacity_factor=1, sliding_window=None,
            enable_expert_tensor_parallelism=False,
        ),
        477, 35 * 4096, oracle=False,
    ),
    "LFM2-8B-A1B": Published(
        _config(
            "lfm2_moe", 24, 2048, 32, 8, 65_536, intermediate_size=7168, moe_intermediate_size=1792, num_experts=32,
            num_experts_per_tok=4, num_dense_layers=2, conv_L_cache=3, conv_bias=False, use_expert_bias=True,
            tie_word_embeddings=True, norm_eps=1e-5,
            layer_types=["full_attention" if n in (2, 6, 10, 14, 18, 21) else "conv" for n in range(24)],
        ),
        8.34, 6 * 2048,
    ),
    "Bamba-9B": Published(
        _config(
            "bamba", 32, 4096, 32, 8, 128_256, intermediate_size=14_336, attn_layer_indices=[9, 18, 27], mamba_n_heads=128,
            mamba_d_conv=4, mamba_d_head=64, mamba_d_state=128, mamba_expand=2, mamba_n_groups=1,
        ),
        9.78, 3 * 4096,
    ),
    "gemma-4-26B-A4B": Published(
        _config(
            "gemma4_text", 30, 2816, 16, 8, 262_144, num_global_key_value_heads=2, head_dim=256, global_head_dim=512,
            attention_k_eq_v=True, enable_moe_block=True, num_experts=128, top_k_experts=8, moe_intermediate_size=704,
            intermediate_size=2112, sliding_window=1024, hidden_size_per_layer_input=0, vocab_size_per_layer_input=262_144,
            num_kv_shared_layers=0, use_double_wide_mlp=False, layer_types=_every(30, 6), tie_word_embeddings=True,
        ),
        25.2, 5 * 2 * 2 * 512 * 2,
    ),
    "gemma-4-E2B": Published(
        _config(
            "gemma4_text", 35, 1536, 8, 1, 262_144, head_dim=256, global_head_dim=512, attention_k_eq_v=False,
            enable_moe_block=False, intermediate_size=6144, sliding_window=512, hidden_size_per_layer_input=256,
            vocab_size_per_layer_input=262_144, num_kv_shared_layers=20, use_double_wide_mlp=True, layer_types=_every(35, 5),
            tie_word_embeddings=True,
        ),
        4.65, 3 * 2 * 512 * 2,
    ),
    "MiMo-V2-Flash": Published(
        _config(
            "mimo_v2_flash", 48, 4096, 64, 4, 152_576, head_dim=192, v_head_dim=128, intermediate_size=16_384,
            moe_intermediate_size=2048, n_routed_experts=256, n_shared_experts=None, num_experts_per_tok=8, n_group=1,
            topk_group=1, hybrid_layer_pattern=[0 if n == 0 or (n + 1) % 6 == 0 else 1 for n in range(48)],
            moe_layer_freq=[0] + [1] * 47, swa_num_attention_heads=64, swa_num_key_value_heads=8, swa_head_dim=192,
            swa_v_head_dim=128, sliding_window=128, sliding_window_size=128, attention_chunk_size=128, hybrid_block_size=None,
            add_full_attention_sink_bias=False, add_swa_attention_sink_bias=True, attention_value_scale=0.707,
        ),
        308.8, 9 * 4 * 320 * 2, oracle=False,
    ),
    "K-EXAONE-236B-A23B": Published(
        _config(
            "exaone_moe", 48, 6144, 64, 8, 153_600, architectures=["ExaoneMoEForCausalLM"], head_dim=128,
            intermediate_size=18_432, moe_intermediate_size=2048, num_experts=128, num_experts_per_tok=8, num_shared_experts=1,
            first_k_dense_replace=1, is_moe_layer=[False] + [True] * 47, n_group=1, topk_group=1, sliding_window=128,
            sliding_window_pattern="LLLG", layer_types=_every(48, 4), num_nextn_predict_layers=1,
        ),
        236, 12 * 4096, oracle=False,
    ),
    "Hy3": Published(
        _config(
            "hy_v3", 80, 4096, 64, 8, 120_832, head_dim=128, intermediate_size=13_312, moe_intermediate_size=1536,
            expert_hidden_dim=1536, num_experts=192, num_experts_per_tok=8, num_shared_experts=1, first_k_dense_replace=1,
            qk_norm=True, route_norm=True, router_scaling_factor=2.826, enable_moe_fp32_combine=True, use_grouped_mm=True,
            num_nextn_predict_layers=1,
        ),
        295, 80 * 4096,
    ),
    "Mistral-Large-3": Published(
        {
            "dim": 7168, "n_layers": 61, "head_dim": 192, "hidden_dim": 16_384, "n_heads": 128, "n_kv_heads": 128,
            "norm_eps": 1e-6, "vocab_size": 131_072, "rope_theta": 10_000.0, "max_position_embeddings": 294_912,
            "q_lora_rank": 1536, "tied_embeddings": False, "llama_4_scaling": {"beta": 0.1}, "yarn": {"factor": 36}, **_MLA,
            "moe": {
                "num_experts": 128, "num_experts_per_tok": 4, "num_shared_experts": 1, "expert_hidden_dim": 4096,
                "first_k_dense_replace": 3, "route_every_n": 1, "routed_scale": 1.0, "num_expert_groups": 1,
                "num_expert_groups_per_tok": 1, "expert_parallel": 1, "expert_model_parallel": 1,
            },
            "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"},
            "vision_encoder": {"hidden_size": 1664, "num_hidden_layers": 48},
        },
        673, 61 * 1152, oracle=False,
    ),
    "North-Mini-Code-1.0": Published(
        _config(
            "cohere2_moe", 49, 2048, 32, 4, 262_144, head_dim=128, intermediate_size=768, prefix_dense_intermediate_size=3072,
            num_experts=128, num_experts_per_tok=8, num_shared_experts=0, first_k_dense_replace=1, sliding_window=4096,
            prefix_dense_sliding_window_pattern=1, use_parallel_block=True, use_gated_activation=True, use_qk_norm=False,
            layer_types=["full_attention" if n % 4 == 0 else "sliding_attention" for n in range(49)],
            tie_word_embeddings=None, expert_selection_fn="sigmoid", logit_scale=1.0,
        ),
        30.5, 13 * 2048,
    ),
    "MiniMax-Text-01": Published(
        _config(
            "minimax_text_01", 80, 6144, 64, 8, 200_064, architectures=["MiniMaxText01ForCausalLM"], head_dim=128,
            intermediate_size=9216, num_local_experts=32, num_experts_per_tok=2, shared_intermediate_size=0,
            attn_type_list=[int((n + 1) % 8 == 0) for n in range(80)], postnorm=True, shared_moe_mode="sigmoid",
            layernorm_full_attention_alpha=3.55, layernorm_full_attention_beta=1.0, layernorm_linear_attention_alpha=3.55,
            layernorm_linear_attention_beta=1.0, layernorm_mlp_alpha=3.55, layernorm_mlp_beta=1.0, rotary_dim=64,
        ),
        456, 10 * 4096, oracle=False,
    ),
    "Kimi-K3": Published(
        {
            "architectures": ["KimiK3ForConditionalGeneration"], "model_type": "kimi_k3", "image_placeholder": "<image>",
            "vision_config": {"vt_hidden_size": 1024}, "tie_word_embeddings": False,
            "text_config": _config(
                "kimi_linear", 93, 7168, 96, 96, 163_840, architectures=["KimiLinearForCausalLM"], intermediate_size=33_792,
                moe_intermediate_size=3072, num_experts=896, num_experts_per_token=16, num_shared_experts=2, moe_layer_freq=1,
                first_k_dense_replace=1, routed_expert_hidden_size=3584, latent_moe_use_norm=True, num_expert_group=1,
                topk_group=1, q_lora_rank=1536, mla_use_nope=True, mla_use_output_gate=True, attn_res_block_size=12,
                linear_attn_config=_KIMI_K3, hidden_act="situ", activation_situ_beta=4.0, use_grouped_topk=True, **_MLA,
            ),
        },
        2780, 24 * 1152, oracle=False,
    ),
    "Nemotron-H-8B": Published(
        _config(
            "nemotron_h", 52, 4096, 32, 8, 131_072, attention_head_dim=128, intermediate_size=21_504, mamba_head_dim=64,
            hybrid_override_pattern="M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-", mamba_num_heads=128, n_groups=8,
            ssm_state_size=128, conv_kernel=4, expand=2, mlp_hidden_act="relu2",
        ),
        8.1, 4 * 4096, oracle=False,
    ),
    "Qwen3.5-35B-A3B": Published(
        _config(
            "qwen3_5_moe_text", 40, 2048, 16, 2, 248_320, head_dim=256, moe_intermediate_size=512, num_experts=256,
            num_experts_per_tok=8, shared_expert_intermediate_size=512, linear_conv_kernel_dim=4, linear_key_head_dim=128,
            linear_num_key_heads=16, linear_num_value_heads=32, linear_value_head_dim=128, full_attention_interval=4,
            attn_output_gate=True, mtp_num_hidden_layers=1, layer_types=_every(40, 4, other="linear_attention"),
        ),
        34.7, 10 * 2048,
    ),
    "dots.llm1": Published(
        _config(
            "dots1", 62, 4096, 32, 32, 152_064, head_dim=128, intermediate_size=10_944, moe_intermediate_size=1408,
            n_routed_experts=128, n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1, moe_layer_freq=1,
            n_group=1, topk_group=1, sliding_window=None, max_window_layers=62,
        ),
        142.8, 62 * 16_384,
    ),
    "aria": Published(
        {
            "architectures": ["AriaForConditionalGeneration"], "model_type": "aria", "vision_config": {"hidden_size": 1152},
            "projector_patch_to_query_dict": {"1225": 128}, "image_token_index": 9,
            "text_config": _config(
                "aria_text", 28, 2560, 20, 20, 100_352, intermediate_size=1664, moe_num_experts=64, moe_topk=6,
                moe_num_shared_experts=2, moe_intermediate_size=1664,
            ),
        },
        24.9, 28 * 2 * 2560 * 2, oracle=False,
    ),
}
