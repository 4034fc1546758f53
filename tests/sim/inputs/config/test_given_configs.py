"""The cases with known right values that lie beside the checkout: sizes, caches, formats, refusals."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.inputs.model import load_model

FOLDER = Path(__file__).parents[5] / "shared" / "configs"
CASES = list(csv.DictReader((FOLDER / "expected.csv").open())) if FOLDER.is_dir() else []
BY_NAME = {case["folder"]: case for case in CASES}

pytestmark = pytest.mark.skipif(not CASES, reason="the configs with known values are not here")

#: What each refusal names, and what each quantised case has: format by kind of weights, and the cache.
REFUSALS = {
    "bad-zero-heads": "num_attention_heads",
    "bad-huge-layers": "num_hidden_layers",
    "bad-mtp-str": "num_nextn_predict_layers",
    "bad-dup-keys2": "num_experts is given twice, 128 and 8",
    "bad-bool-layers": "num_hidden_layers",
    "bad-tie-str": "tie_word_embeddings",
    "bad-null-experts": "num_experts: wanted a whole number from 1, got null",
    "bad-step-100": "decoder_sparse_step: leaves none of 48 layers with experts",
    "bad-kvheads-5": "32 heads do not divide over 5 KV heads",
    "quant-gptq-int3": "3 bits",
    "quant-unknown-method": "quant_method: 'foo'",
}
FORMATS = {
    "quant-awq": ("int4 g128", "int4 g128", "int4 g128", "bf16"),
    "quant-bnb-4bit": ("nf4", "nf4", "nf4", "bf16"),
    "quant-quark-mxfp4": ("bf16", "mxfp4", "mxfp4", "bf16"),
    "quant-w4afp8-deepseek": ("fp8", "fp8", "int4 g128", "bf16"),
    "quant-modelopt-mixed": ("fp8 channel", "fp8 channel", "nvfp4", "bf16"),
    "quant-torchao-int4": ("int4 g128", "int4 g128", "int4 g128", "bf16"),
    "quant-mlx-4bit": ("int4 g64", "int4 g64", "int4 g64", "int4 g64"),
    "quant-fp8-only-experts": ("bf16", "bf16", "fp8", "bf16"),
    "quant-ct-nvfp4-all-linears": ("nvfp4", "nvfp4", "nvfp4", "bf16"),
    "nvfp4-beside": ("nvfp4", "nvfp4", "nvfp4", "bf16"),
}


@pytest.mark.parametrize("name", [case["folder"] for case in CASES if case["total_B"]])
def test_sizes(name: str) -> None:
    case, model = BY_NAME[name], load_model(FOLDER / name)
    assert model.total_params / 1e9 == pytest.approx(float(case["total_B"]), rel=0.005)
    if case["active_B"]:  # cards leave out one table or both: at most 6 % of what a token reads
        assert model.active_params / 1e9 == pytest.approx(float(case["active_B"]), rel=0.06)
    if case["kv_bytes_per_token_bf16"]:
        assert model.kv_bytes_per_token("bf16") == int(case["kv_bytes_per_token_bf16"])
    assert model.unused == ()


def test_every_refusal_is_known() -> None:
    assert {case["folder"] for case in CASES if case["precision_or_refusal"].startswith("refused")} == set(REFUSALS)


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_file_and_key(name: str) -> None:
    with pytest.raises(BadInput) as refusal:
        load_model(FOLDER / name)
    assert REFUSALS[name] in str(refusal.value)
    assert str(FOLDER / name / "config.json") in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str) -> None:
    model = load_model(FOLDER / name)
    form = model.formats
    assert (form.attention.name, form.dense.name, form.experts.name, form.head.name) == FORMATS[name]
    assert form.shared == (form.dense if model.shared_experts else form.attention)
    assert form.kv == ("fp8" if name == "nvfp4-beside" else None)
