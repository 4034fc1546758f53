"""Multimodal files: the language model inside is what is read, whatever its wrapper says beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.inputs.model import MoeModel

Read = Callable[..., MoeModel]

QWEN: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 1000,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
TOWER = {"hidden_size": 1152, "depth": 27, "num_heads": 16, "intermediate_size": 4304, "patch_size": 16}
#: What files of each kind have around their language model.
WRAPPERS: dict[str, dict[str, Any]] = {
    "Qwen3-VL": {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "text_config": {**QWEN, "model_type": "qwen3_vl_moe_text"},
        "vision_config": TOWER,
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "tie_word_embeddings": False,
        "transformers_version": "4.57.0.dev0",
    },
    "Qwen3-Omni": {
        "architectures": ["Qwen3OmniMoeForConditionalGeneration"],
        "model_type": "qwen3_omni_moe",
        "assistant_token_id": 77091,
        "enable_audio_output": True,
        "code2wav_config": {"codebook_size": 2048, "num_hidden_layers": 8},
        "talker_config": {"text_config": {"hidden_size": 1024, "num_experts": 128}, "num_code_groups": 16},
        "thinker_config": {
            "model_type": "qwen3_omni_moe_thinker",
            "audio_config": {"d_model": 1280, "encoder_layers": 32},
            "position_id_per_seconds": 13,
            "user_token_id": 872,
            "text_config": {**QWEN, "model_type": "qwen3_omni_moe_text", "shared_expert_intermediate_size": 0},
            "vision_config": TOWER,
        },
    },
    "InternVL": {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": 448,
        "hidden_size": 256,
        "llm_config": {**QWEN, "architectures": ["Qwen3MoeForCausalLM"], "ep_size": 1, "use_deepep": False},
        "max_dynamic_patch": 12,
        "min_dynamic_patch": 1,
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "internvl2_5",
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "use_thumbnail": True,
        "vision_config": TOWER,
    },
    "language_config": {
        "model_type": "some_vl",
        "language_config": {**QWEN, "architectures": ["Qwen3MoeForCausalLM"]},
        "vision_config": TOWER,
        "projector_config": {"n_embed": 256},
        "tile_tag": "2D",
        "candidate_resolutions": [[384, 384]],
        "global_view_pos": "head",
    },
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_language_model_inside_is_read(name: str, read: Read) -> None:
    facts = {"exclude": {"name", "sources"}}
    assert read(WRAPPERS[name]).model_dump(**facts) == read(QWEN).model_dump(**facts)  # type: ignore[arg-type]


def test_what_stands_outside_holds_inside(read: Read) -> None:
    wrapped = {**WRAPPERS["Qwen3-VL"], "tie_word_embeddings": True}
    assert read(wrapped).tied_embeddings
    quantised = {**WRAPPERS["Qwen3-VL"], "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    assert read(quantised).formats.experts.name == "fp8"


def test_a_key_of_structure_is_refused_on_either_side(read: Read) -> None:
    outside = {**WRAPPERS["Qwen3-VL"], "num_experts": 64}
    with pytest.raises(BadInput, match=r"config\.json: num_experts: may speak of the model's structure"):
        read(outside)
    inside = {**WRAPPERS["Qwen3-VL"], "text_config": {**QWEN, "n_shared_experts": 1}}
    with pytest.raises(BadInput, match=r"config\.json: text_config: n_shared_experts: may speak"):
        read(inside)


def test_the_files_that_leave_out_what_the_library_knows(read: Read) -> None:
    """Gemma 3's files: the vocabulary, the heads and the windows' rhythm are the library's defaults."""
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    model = read({"model_type": "gemma3", "text_config": {**text, "sliding_window": 1024}, "vision_config": TOWER})
    assert model.total_params / 1e9 == pytest.approx(3.88, rel=0.001)  # gemma-3-4b without its encoder
    assert model.kv_bytes_per_token() == 5 * 2 * 4 * 256 * 2
