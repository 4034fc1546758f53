"""Published models: read within 1 % of their printed sizes, KV cache to the byte; counted by tensor; re-saved, the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epicycle.sim.inputs.model import MoeModel, load_model

Read = Callable[..., MoeModel]


def test_sizes_are_the_printed_ones(published: Any, read: Read) -> None:
    model = read(published.config)
    assert model.total_params / 1e9 == pytest.approx(published.total, rel=0.01)
    assert model.kv_bytes_per_token("bf16") == published.kv
    assert model.unused == ()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "Ling-1T",
            "1.000 T parameters, 51.1 B active, 80 layers (76 MoE, 256 experts, top-8), KV 327,680 B a token, "
            "stored 1,862 GiB in bf16",
        ),
        (
            "Kimi-K3",
            "2.779 T parameters, 105 B active, 93 layers (92 MoE, 896 experts, top-16): 69 KDA, 24 latent attention, "
            "KV 27,648 B a token, stored 5,177 GiB in bf16",
        ),
        (
            "Mistral-Large-3",
            "673.4 B parameters, 39.9 B active, 61 layers (58 MoE, 128 experts, top-4) of latent attention, "
            "KV 70,272 B a token, stored 629 GiB in fp8 channel",
        ),
        (
            "LongCat-Flash",
            "560.7 B parameters, 28.0 B active, 56 layers (28 MoE, 512 experts and 256 that do nothing, "
            "top-8 real ones on average) of latent attention, KV 64,512 B a token, stored 1,044 GiB in bf16",
        ),
        (
            "Bamba-9B",
            "9.779 B parameters, all active, 32 layers (dense): 29 Mamba-2, 3 full attention, KV 12,288 B a token, "
            "stored 18 GiB in bf16",
        ),
    ],
)
def test_a_model_says_in_one_line_what_was_read(name: str, sentence: str, shapes: dict[str, Any], read: Read) -> None:
    assert read(shapes[name].config).summary == sentence


def _matrices(hidden: int, width: int, times: int) -> list[tuple[tuple[int, ...], int]]:
    """Gate, up and down of ``times`` MLPs."""
    return [((width, hidden), 2 * times), ((hidden, width), times)]


#: Tensors of families that the oracle does not have: (shape, how many), biases and norms left out.
TENSORS: dict[str, list[tuple[tuple[int, ...], int]]] = {
    "grok-1": [
        ((131_072, 6144), 1),  # its file does not untie them
        ((6144, 6144), 2 * 64),  # q_proj, o_proj
        ((1024, 6144), 2 * 64),  # k_proj, v_proj
        ((8, 6144), 64),  # gate
        *_matrices(6144, 32_768, 8 * 64),
    ],
    "snowflake-arctic": [
        ((32_000, 7168), 2),
        ((7168, 7168), 2 * 35),
        ((1024, 7168), 2 * 35),
        ((128, 7168), 35),
        *_matrices(7168, 7168, 35),  # residual_mlp
        *_matrices(7168, 4864, 128 * 35),
    ],
    "LongCat-Flash": [
        ((131_072, 6144), 2),
        ((1536, 6144), 56),  # q_a_proj of both attentions of a layer
        ((12_288, 1536), 56),
        ((576, 6144), 56),
        ((16_384, 512), 56),
        ((6144, 8192), 56),
        *_matrices(6144, 12_288, 56),
        ((768, 6144), 28),  # the router knows the experts that do nothing
        *_matrices(6144, 2048, 512 * 28),
    ],
    "Step-3.5-Flash": [
        ((128_896, 4096), 2),
        *[((heads * 128, 4096), 2 * layers) for heads, layers in ((64, 12), (96, 33))],  # q_proj, o_proj
        ((64, 4096), 12),  # g_proj
        ((96, 4096), 33),
        ((1024, 4096), 2 * 45),
        *_matrices(4096, 11_264, 3),
        *_matrices(4096, 1280, (288 + 1) * 42),
        ((288, 4096), 42),
    ],
    "Hunyuan-Large": [
        ((129_024, 6400), 1),
        ((6400, 6400), 2 * 64),
        ((640, 6400), 2 * 32),  # every other layer has keys and values of its own
        ((16, 6400), 64),
        *_matrices(6400, 18_304, (16 + 1) * 64),
    ],
    "MiniMax-Text-01": [
        ((200_064, 6144), 2),
        ((24_576, 6144), 70),  # qkv_proj of lightning attention
        ((8192, 6144), 2 * 70),  # output_gate, out_proj
        ((8192, 6144), 2 * 10),
        ((1024, 6144), 2 * 10),
        ((32, 6144), 80),
        *_matrices(6144, 9216, 32 * 80),
    ],
    "Ring-mini-linear-2.0": [
        ((157_184, 2048), 2),
        ((6144, 2048), 16),  # query_key_value of linear attention
        ((2048, 2048), 2 * 16),  # g_proj, dense
        ((3072, 2048), 4),  # query_key_value of 16 and 2 x 4 heads
        ((2048, 2048), 4),
        *_matrices(2048, 5120, 1),
        *_matrices(2048, 512, (256 + 1) * 19),
        ((256, 2048), 19),
    ],
    "Ling-1T": [
        ((157_184, 8192), 2),
        ((10_240, 8192), 80),
        ((8192, 8192), 80),
        *_matrices(8192, 18_432, 4),
        *_matrices(8192, 2048, (256 + 1) * 76),
        ((256, 8192), 76),
    ],
    "Kimi-K3": [  # as its weight files list them
        ((163_840, 7168), 2),
        ((12_288, 7168), 3 * 69),  # q_proj, k_proj, v_proj
        ((12_288, 4), 3 * 69),  # their convolutions
        ((96, 7168), 69),
        ((128, 7168), 69),  # f_a_proj
        ((12_288, 128), 69),
        ((12_288, 7168), 93),  # g_proj
        ((7168, 12_288), 93),  # o_proj
        ((576, 7168), 24),
        ((24_576, 512), 24),
        ((1536, 7168), 24),
        ((18_432, 1536), 24),
        *_matrices(7168, 33_792, 1),
        *_matrices(3584, 3072, 896 * 92),
        ((896, 7168), 92),
        ((3584, 7168), 2 * 92),  # routed_expert_down_proj and up_proj
        *_matrices(7168, 6144, 92),
    ],
    "Mistral-Large-3": [
        ((131_072, 7168), 2),
        ((1536, 7168), 61),
        ((24_576, 1536), 61),
        ((576, 7168), 61),
        ((32_768, 512), 61),
        ((7168, 16_384), 61),
        *_matrices(7168, 16_384, 3),
        *_matrices(7168, 4096, (128 + 1) * 58),
        ((128, 7168), 58),
    ],
    "dbrx": [
        ((100_352, 6144), 2),
        ((8192, 6144), 40),  # Wqkv
        ((6144, 6144), 40),
        ((16, 6144), 40),
        *_matrices(6144, 10_752, 16 * 40),
    ],
}


@pytest.mark.parametrize("name", TENSORS)
def test_every_tensor_is_counted_once(name: str, shapes: dict[str, Any], read: Read) -> None:
    assert read(shapes[name].config).total_params == sum(math.prod(shape) * times for shape, times in TENSORS[name])


def _built(config: dict[str, Any]) -> tuple[Any, Any]:
    """The configuration and the model that transformers makes of it, without memory. Skips where it is not installed."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    table = {key: value for key, value in config.items() if key not in ("model_type", "torch_dtype", "architectures")}
    made = transformers.AutoConfig.for_model(config["model_type"], **table)
    with torch.device("meta"):
        return made, transformers.AutoModelForCausalLM.from_config(made)


def _known(config: dict[str, Any]) -> bool:
    transformers = pytest.importorskip("transformers")
    return config.get("model_type") in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES


def test_transformers_counts_the_same(published: Any, read: Read, tmp_path: Path) -> None:
    if not published.oracle:
        pytest.skip("transformers has no such family, or counts what the checkpoint does not have")
    if not _known(published.config):
        pytest.skip("this transformers does not have the family yet")
    config = {key: value for key, value in published.config.items() if (key, value) != ("tie_word_embeddings", None)}
    if config["model_type"] == "bailing_hybrid":
        config["kda_lower_bound"] = float(config["kda_lower_bound"])
    made, built = _built(config)
    total = sum({id(weight): weight.numel() for weight in built.parameters()}.values())
    model = read(published.config)
    assert model.total_params == pytest.approx(total, rel=0.001)  # norms and biases
    path = tmp_path / "config.json"
    path.write_text(json.dumps(made.to_dict()))
    again = load_model(path)
    facts = {"exclude": {"name", "sources", "unused", "max_context"}}
    assert again.model_dump(**facts) == model.model_dump(**facts)  # type: ignore[arg-type]
