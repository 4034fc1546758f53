"""Every family that transformers has and this reads: its default configuration, saved, counts what its tensors do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.inputs.config.family import MODEL_TYPES, NOT_READ
from epicycle.sim.inputs.model import load_model

#: Defaults that no checkpoint has, or that the package itself does not build, and why.
ODD = {
    "longcat_flash": "its experts that do nothing are built as if they had weights",
    "deepseek_v2": "num_experts_per_tok is null",
    "glm4_moe": "heads do not divide the hidden size, and head_dim is not said",
    "glm4v_moe": "heads do not divide the hidden size, and head_dim is not said",
    "glm4v_moe_text": "heads do not divide the hidden size, and head_dim is not said",
    "qwen3_omni_moe_thinker": "heads do not divide the hidden size, and head_dim is not said",
    "qwen3_omni_moe_text": "heads do not divide the hidden size, and head_dim is not said",
    "qwen3_omni_moe": "builds speech beside the thinker",
    "mistral3": "the wrapper ties its embeddings and the language model does not",
    "qwen3_vl_moe": "the language model ties its embeddings and the wrapper does not",
}
#: Parts of names of what lies beside a language model.
_TOWERS = ("visual", "vision", "audio", "multi_modal_projector", "image", "connector", "mm_")


@pytest.mark.long(share=0.2)
@pytest.mark.parametrize("kind", sorted(set(MODEL_TYPES) - set(ODD)))
def test_a_default_configuration_counts_what_is_built(kind: str, tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    if kind not in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES:
        pytest.skip("this transformers does not have the family")
    made = transformers.AutoConfig.for_model(kind)
    built = None
    with torch.device("meta"):
        for auto in (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText):
            try:
                built = built or auto.from_config(made)
            except (ValueError, TypeError, AttributeError):  # no such model, or defaults that the package does not build
                continue
    if built is None:
        pytest.skip("the package builds no language model of its defaults")
    weights = {
        id(weight): weight.numel() for name, weight in built.named_parameters() if not any(part in name for part in _TOWERS)
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(made.to_dict(), default=str))
    assert load_model(path).total_params == pytest.approx(sum(weights.values()), rel=0.002)  # norms, biases, hyper-connections


@pytest.mark.parametrize("kind", NOT_READ)
def test_a_family_that_is_known_and_not_read_says_why(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": kind, "hidden_size": 64, "num_hidden_layers": 2, "num_experts": 8}))
    with pytest.raises(BadInput) as refusal:
        load_model(path)
    key = NOT_READ[kind].split(":")[0]
    assert f"{kind} is a family that is not read: {key}: " in str(refusal.value)
    assert len(str(refusal.value)) < 400
