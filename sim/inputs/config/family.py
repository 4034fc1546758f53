"""The table of families: what a file calls its model, and the function that reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from ....hwmodels.errors import BadInput
from .document import clipped
from .families import gated, hybrids, linear, mla, plain, step, windows
from .keys import Keys

Reader = Callable[[Keys], dict[str, Any]]

#: ``model_type`` -> reader.
MODEL_TYPES: dict[str, Reader] = {
    **dict.fromkeys(
        ("llama", "mistral", "ministral", "ministral3", "phi3", "olmo", "olmo2", "olmo3", "granite", "seed_oss"), plain.llama
    ),
    **dict.fromkeys(("smollm3", "exaone4", "internlm2", "internlm3", "helium", "hunyuan_v1_dense", "ernie4_5"), plain.llama),
    **dict.fromkeys(
        ("qwen2", "qwen3", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text"), plain.qwen_dense
    ),
    **dict.fromkeys(("mixtral", "olmoe", "flex_olmo", "granitemoe", "granitemoeshared"), plain.mixtral),
    **dict.fromkeys(("phimoe", "granitemoe_swa"), plain.mixtral),
    **dict.fromkeys(("glm", "glm4", "glm4v_text", "iquestcoder", "cwm", "granite_swa"), plain.llama),
    "starcoder2": plain.arcee,
    **dict.fromkeys(("mellum", "flint", "kolibri1"), plain.qwen_moe),
    "laguna": gated.laguna,
    "beam": gated.beam,
    "muse_spark_text": gated.muse_spark,
    "hy_v4": gated.hunyuan4,
    "lara_mini": gated.lara,
    "minimax_m2": plain.minimax_m2,
    **dict.fromkeys(
        ("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text", "qwen3_omni_moe_thinker", "interns1_pro_text"),
        plain.qwen_moe,
    ),
    **dict.fromkeys(("glm4_moe", "glm4v_moe_text", "dots1", "solar_open"), plain.glm_moe),
    "hy_v3": plain.hy_v3,
    **dict.fromkeys(("bailing_moe", "bailing_moe_v2"), plain.bailing),
    "exaone_moe": plain.exaone_moe,
    "exaone4_5_text": plain.llama,
    "aria_text": plain.aria,
    "arcee": plain.arcee,
    "sarvam_moe": plain.sarvam,
    "sarvam_mla": mla.lite,
    "deepseek": plain.deepseek_moe,
    "ernie4_5_moe": plain.ernie,
    **dict.fromkeys(("hunyuan_v1_moe", "hunyuan_moe", "hunyuan"), plain.hunyuan),
    "dbrx": plain.dbrx,
    **dict.fromkeys(("grok-1", "grok1"), plain.grok),
    "arctic": plain.arctic,
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa", "mistral4", "axk1"), mla.deepseek),
    "glm4_moe_lite": mla.lite,
    "deepseek_v4": mla.deepseek_v4,
    "pangu_ultra_moe": mla.pangu,
    **dict.fromkeys(("longcat_flash", "longcat"), mla.longcat),
    "mistral_params": mla.mistral_params,
    "gemma2": windows.gemma2,
    "gemma3_text": windows.gemma3,
    "gemma4_text": windows.gemma4,
    "gpt_oss": windows.gpt_oss,
    "llama4_text": windows.llama4,
    **dict.fromkeys(("cohere2", "cohere2_moe"), windows.cohere),
    "afmoe": windows.afmoe,
    **dict.fromkeys(("mimo_v2_flash", "mimo_v2"), windows.mimo),
    **dict.fromkeys(("minimax_m3", "minimax_m3_text", "minimax_m3_vl_text"), windows.minimax_m3),
    **dict.fromkeys(("step3_text", "step3_vl"), step.step3),
    "step3p5": step.step35,
    **dict.fromkeys(("qwen3_next", "qwen3_5_moe_text", "qwen3_5_text"), hybrids.qwen_next),
    "jamba": hybrids.jamba,
    "nemotron_h": hybrids.nemotron,
    "granitemoehybrid": hybrids.granite,
    "bamba": hybrids.bamba,
    "falcon_h1": hybrids.falcon_h1,
    **dict.fromkeys(("lfm2", "lfm2_moe"), hybrids.lfm2),
    **dict.fromkeys(("minimax", "minimax_text_01", "minimax_m1"), linear.minimax),
    "kimi_linear": linear.kimi_linear,
    **dict.fromkeys(
        ("bailing_moe_linear", "bailing_moe_linear_v2", "bailing_hybrid", "bailing_moe_v2_5"), linear.bailing_hybrid
    ),
}
#: Wrappers whose language model may not name its family itself.
MODEL_TYPES |= {
    **dict.fromkeys(("kimi_vl", "kimi_k25", "deepseek_vl_v2"), mla.deepseek),
    **dict.fromkeys(("qwen3_vl_moe", "qwen3_omni_moe"), plain.qwen_moe),
    "qwen3_vl": plain.qwen_dense,
    "glm4v_moe": plain.glm_moe,
    "glm4v": plain.llama,
    "muse_spark": gated.muse_spark,
    "llama4": windows.llama4,
    "gemma3": windows.gemma3,
    "gemma4": windows.gemma4,
    "mistral3": plain.llama,
    **dict.fromkeys(("qwen3_5_moe", "qwen3_5"), hybrids.qwen_next),
    "kimi_k3": linear.kimi_linear,
    "minimax_m3_vl": windows.minimax_m3,
}
#: Architectures whose files carry another model's ``model_type``, or none, or a wrapper's.
ARCHITECTURES: dict[str, Reader] = {
    **dict.fromkeys(("Grok1ForCausalLM", "Grok1ModelForCausalLM"), plain.grok),
    **dict.fromkeys(("BailingMoeForCausalLM", "BailingMoeV2ForCausalLM"), plain.bailing),
    "BailingMoeLinearForCausalLM": linear.bailing_hybrid,
    "BailingMoeLinearV2ForCausalLM": linear.bailing_hybrid,
    "BailingMoeV2_5ForCausalLM": linear.bailing_hybrid,
    "BailingMoeV3ForCausalLM": linear.bailing_hybrid,
    **dict.fromkeys(("MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM", "MiniMaxForCausalLM"), linear.minimax),
    **dict.fromkeys(("HunYuanMoEV1ForCausalLM", "HunYuanForCausalLM"), plain.hunyuan),
    "ArcticForCausalLM": plain.arctic,
    "Step3TextForCausalLM": step.step3,
    "Step3p5ForCausalLM": step.step35,
    **dict.fromkeys(("LongcatFlashForCausalLM", "LongcatCausalLM"), mla.longcat),
    "DeepseekV2ForCausalLM": mla.deepseek,
    "DeepseekV3ForCausalLM": mla.deepseek,
    "DeepseekV32ForCausalLM": mla.deepseek,
    "PanguUltraMoEForCausalLM": mla.pangu,
    "MiniMaxM3ForCausalLM": windows.minimax_m3,
    "MiMoV2FlashForCausalLM": windows.mimo,
    "HYV3ForCausalLM": plain.hy_v3,
    "KimiLinearForCausalLM": linear.kimi_linear,
}


#: Families that are known and not read, and why: what of them no description of layers here holds.
NOT_READ: dict[str, str] = {
    **dict.fromkeys(
        ("ernie4_5_vl_moe", "ernie4_5_moe_vl", "Ernie4_5_VLMoeForConditionalGeneration"),
        "moe_intermediate_size: experts of images lie beside those of text and are narrower, one width is read",
    ),
    **dict.fromkeys(("jetmoe", "JetMoeForCausalLM"), "num_local_experts: attention has experts too, which are not read"),
    **dict.fromkeys(("zaya", "ZayaForCausalLM"), "cca_time0: attention in a convolved, compressed space is not read"),
    **dict.fromkeys(
        ("gemma3n", "gemma3n_text"), "altup_num_inputs: four residual streams and MLPs of several widths are not read"
    ),
    **dict.fromkeys(
        ("deci", "nemotron-nas", "DeciLMForCausalLM"),
        "block_configs: layers that each have heads and a width of their own are not read",
    ),
    "NemotronHPuzzleForCausalLM": "block_configs: layers that each have experts and a width of their own are not read",
    **dict.fromkeys(
        ("zamba", "zamba2"), "hybrid_layer_ids: attention blocks that several layers share, with adapters, are not read"
    ),
    **dict.fromkeys(
        ("longcat_flash_ngram", "LongcatFlashNgramForCausalLM"),
        "ngram_vocab_size_ratio: embeddings of several tokens are not read",
    ),
    **dict.fromkeys(("qwen4_exp", "qwen4_exp_text"), "ngram_embedding: embeddings of several tokens are not read"),
    **dict.fromkeys(("glm5_next", "glm5_next_text"), "index_kpool: an indexer whose keys stand for several tokens is not read"),
    **dict.fromkeys(
        ("mistral_large4", "mistral_large4_text"), "kv_source_layers: latent caches that layers share are not read"
    ),
    **dict.fromkeys(
        ("dots3_note", "dots3_note_text"), "per_layer_config: layers that each have a latent width of their own are not read"
    ),
    **dict.fromkeys(
        ("inkling_mm_model", "inkling_text", "inkling2", "inkling2_text"),
        "conv_kernel_size: convolutions over keys, values and what enters a block are not read",
    ),
    "axk2": "gated_norm_rank: norms with a gate, and queries joined with it, are not read",
    "k2_horizon": "mova_num_experts: values that are mixed of experts are not read",
}


def reader_of(kinds: Sequence[str], where: str) -> Reader:
    """The reader of the innermost architecture or ``model_type`` that is known. Raises BadInput naming the nearest one."""
    for table in (ARCHITECTURES, MODEL_TYPES):
        for kind in kinds:
            if kind in table:
                return table[kind]
    if known := next((kind for kind in kinds if kind in NOT_READ), None):
        raise BadInput(
            f"{where}: {known} is a family that is not read: {NOT_READ[known]}; give the model's fields as a preset file"
        )
    if not kinds:
        raise BadInput(f"{where}: neither architectures nor model_type says what model this is: add model_type")
    said = clipped(kinds[-1])
    near = get_close_matches(kinds[-1].lower(), [name.lower() for name in (*MODEL_TYPES, *ARCHITECTURES)], n=1, cutoff=0.6)
    hint = f": the nearest is {near[0]}" if near else f": {len(MODEL_TYPES)} are, from afmoe to step3p5"
    raise BadInput(f"{where}: model_type: {said} is not a family this reads{hint}")
