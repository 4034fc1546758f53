"""Multimodal wrappers: the language model inside, and what the file says beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .document import shown
from .keys import Keys

#: Keys under which a wrapper keeps its language model, outermost first.
_INSIDE = ("thinker_config", "text_config", "llm_config", "language_config", "language_model_config")
#: Keys that may stand outside and hold for the language model.
_SHARED = ("quantization_config", "compression_config", "quantization", "tie_word_embeddings", "torch_dtype", "dtype")
#: Objects of other parts of a wrapper: encoders of images and sound, speech, what joins them.
_PARTS = (
    "vision",
    "img",
    "mm_",
    "visual",
    "audio",
    "image",
    "video",
    "speech",
    "projector",
    "talker",
    "code2wav",
    "token2wav",
    "vq",
    "codec",
    "sam",
    "projection",
    "merged_",
    "alignment_",
    "insert_layer_id",
    "out_hidden_size",
)


class Unwrapped:
    """``keys``: of the language model. ``outside``: of the wrappers around it. ``kinds``: every architecture and model_type,
    inner ones first. ``towers``: whether weights lie beside the language model's. ``overruled``: what a wrapper says otherwise.
    """

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self.outside: list[Keys] = []
        self.towers = False
        self.overruled: list[str] = []
        self.kinds: list[str] = []
        table = dict(document)
        while True:
            keys = Keys(table, where)
            self.kinds[:0] = _kinds(keys)
            name = next((name for name in _INSIDE if table.get(name) is not None), None)
            if name is None:
                break
            inner = keys.raw(name)
            if not isinstance(inner, Mapping):
                keys.refuse(name, f"wanted an object, got {shown(inner)}")
            self._beside(keys, table, inner)
            table = {**{key: table[key] for key in _SHARED if key in table}, **inner}
            where = f"{where}: {name}"
        self.keys = keys

    def _beside(self, keys: Keys, table: Mapping[str, Any], inner: Mapping[str, Any]) -> None:
        """Keys of a wrapper: its other parts, copies of the language model's, and what holds for it."""
        keys.ignore(*_SHARED)
        for name, value in table.items():
            if any(part in name.lower() for part in _PARTS):
                self.towers = self.towers or isinstance(value, Mapping)
                keys.ignore(name)
            elif name in inner and inner[name] == value:
                keys.ignore(name)
            elif name == "tie_word_embeddings" and inner.get(name) is not None and value is not None:
                self.overruled.append(f"{name} of the wrapper ({shown(value)}), the language model says {shown(inner[name])}")
        keys.ignore("use_unified_vision_chunk", "merge_kernel_size", "tile_tag", "candidate_resolutions", "downsample_ratio")
        keys.ignore("dynamic_image_size", "use_thumbnail", "template", "ps_version", "min_dynamic_patch", "max_dynamic_patch")
        keys.ignore("select_layer", "pad2square", "use_backbone_lora", "use_llm_lora", "force_image_size", "global_view_pos")
        keys.ignore(
            "patch_token_len",
            "multimodal_max_length",
            "mm_tokens_per_image",
            "enable_audio_output",
            "understand_projector_stride",
        )
        keys.ignore(
            "spatial_merge_size",
            "vocab_size",
            "hidden_size",
            "output_attentions",
            "seconds_per_chunk",
            "position_id_per_seconds",
        )
        keys.ignore(
            "user_token_id", "num_extra_vocab", "mlp_connector", "boi_token", "proj_bias", "use_msa", "language_model_type"
        )
        self.outside.append(keys)


def _kinds(keys: Keys) -> list[str]:
    listed = keys.words("architectures") or []
    kind = keys.word("model_type")
    return [*listed, *([kind] if kind else [])]
