"""Every key is used, known to say nothing of cost, or the reason of a refusal; and nothing that is no config is read as one."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.inputs.config.inert import INERT, INERT_ENDINGS
from epicycle.sim.inputs.model import MoeModel, load_model

Read = Callable[..., MoeModel]
Write = Callable[..., Path]

#: Words of structure, from which keys that no family knows are made.
WORDS = ("expert", "moe", "mamba", "linear", "shared", "dense", "sliding", "interval", "pattern", "layer", "index", "residual")
WORDS += ("global", "head", "width", "window", "block", "router", "state", "conv", "kv", "attn", "mlp", "group")
VALUES: tuple[Any, ...] = (0, 1, 2, 64, 1024, True, False, 0.5, "mixed", [1, 2], ["full"], {"every": 2})
#: Spellings that a reader takes for one another, so that a renamed key is still read.
SPELLINGS = {"max_position_embedding", "n_layer"}


def changed(shapes: dict[str, Any], seed: int) -> tuple[dict[str, Any], str]:
    """A published config with one structural key renamed, or one added; and the new key."""
    draw = random.Random(seed)
    config = copy.deepcopy(shapes[draw.choice(sorted(shapes))].config)
    table = config.get("text_config", config)
    if draw.random() < 0.5:
        own = [k for k, v in table.items() if v is not None and k not in INERT and not k.endswith(INERT_ENDINGS)]
        old = draw.choice([key for key in own if not key.endswith("_config") and key != "quantization"])
        new = draw.choice((f"{old}s", f"{old}_v2", f"x_{old}", old[:-1], "_".join(reversed(old.split("_"))) + "_"))
        table[new] = table.pop(old)
    else:
        new = "_".join(draw.sample(WORDS, 2)) + draw.choice(("", "_size", "_every", "_2", "_kind"))
        table[new] = draw.choice(VALUES)
    return config, new


@pytest.mark.parametrize("seed", range(200))
def test_a_renamed_or_added_structural_key_is_refused(seed: int, shapes: dict[str, Any], read: Read) -> None:
    config, key = changed(shapes, seed)
    if key in SPELLINGS:
        pytest.skip("another spelling of the same key")
    with pytest.raises(BadInput) as refusal:
        read(config)
    assert len(str(refusal.value)) < 400


def test_keys_of_other_families_are_refused_by_name(shapes: dict[str, Any], read: Read) -> None:
    config = {**shapes["Qwen3-Coder-480B-A35B"].config, "residual_moe": True}
    with pytest.raises(BadInput, match="residual_moe: may speak of the model's structure"):
        read(config)
    del config["residual_moe"]
    with pytest.raises(BadInput, match="attn_layer_period: may speak"):
        read({**config, "attn_layer_period": 8})


def test_an_unused_key_that_is_no_structure_is_named_in_the_sentence(shapes: dict[str, Any], read: Read) -> None:
    model = read({**shapes["OLMoE-1B-7B"].config, "favourite_colour": "blue", "warmth": 0.5})
    assert model.unused == ("favourite_colour", "warmth")
    assert model.summary.endswith("; not used: favourite_colour, warmth")


def test_another_family_is_refused_with_the_nearest(shapes: dict[str, Any], read: Read) -> None:
    with pytest.raises(BadInput, match="model_type: qwen9_moe is not a family this reads: the nearest is qwen3_moe"):
        read({**shapes["Qwen3-Coder-480B-A35B"].config, "model_type": "qwen9_moe"})
    with pytest.raises(BadInput, match="neither architectures nor model_type"):
        read({key: value for key, value in shapes["OLMoE-1B-7B"].config.items() if key != "model_type"})


def test_a_family_of_experts_without_experts_is_refused(read: Read) -> None:
    dense = {"model_type": "llama", "architectures": ["SomeMoeForCausalLM"], "num_hidden_layers": 2, "hidden_size": 64}
    dense |= {"num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100}
    with pytest.raises(BadInput, match="SomeMoeForCausalLM is a family of experts, and the file counts none"):
        read(dense)


def test_what_is_asked_for_is_what_the_family_has(shapes: dict[str, Any], read: Read) -> None:
    for name, key in (("Jamba-Large-1.5", "intermediate_size"), ("Hunyuan-A13B", "moe_topk"), ("dbrx", "d_model")):
        config = {k: v for k, v in shapes[name].config.items() if k != key}
        with pytest.raises(
            BadInput, match=r": (d_model|intermediate_size|moe_topk): wanted a whole number from 1, the file has none"
        ):
            read(config)


def test_the_longest_context_is_only_a_bound(shapes: dict[str, Any], read: Read) -> None:
    config = {k: v for k, v in shapes["OLMoE-1B-7B"].config.items() if k != "max_position_embeddings"}
    assert read(config).max_context is None
    assert read({**config, "model_max_length": 4096}).max_context == 4096


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": True}, "num_hidden_layers: wanted a whole number, got true"),
        (
            {"num_hidden_layers": 10**30},
            "num_hidden_layers: wanted a whole number from 1 to 10,000, got a number of more than 24",
        ),
        ({"num_hidden_layers": 48.0}, "num_hidden_layers: wanted a whole number, got 48.0"),
        ({"num_attention_heads": 0}, "num_attention_heads: wanted a whole number from 1 to 65,536, got 0"),
        ({"num_key_value_heads": 5}, "num_key_value_heads: 96 heads do not divide over 5 KV heads"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings: wanted true or false, got 'false'"),
        ({"num_experts": None}, "num_experts: wanted a whole number from 1, got null"),
        ({"decoder_sparse_step": 100}, "decoder_sparse_step: leaves none of 62 layers with experts, though the file has 160"),
        ({"mlp_only_layers": "none"}, "mlp_only_layers: wanted a list of whole numbers, got 'none'"),
        ({"num_nextn_predict_layers": "one"}, "num_nextn_predict_layers: wanted a whole number, got 'one'"),
        ({"num_local_experts": 8}, "num_local_experts: 8 disagrees with num_experts, 160: keep one of them"),
        ({"quantization_config": []}, "quantization_config: wanted an object, got []"),
        ({"architectures": "Qwen"}, "architectures: wanted a list of strings, got 'Qwen'"),
        ({"model_type": 3}, "model_type: wanted a string, got 3"),
        ({"text_config": "none"}, "text_config: wanted an object, got 'none'"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types: lists 3 layers, num_hidden_layers says 62"),
        ({"head_dim": "x" * 5000}, "head_dim: wanted a whole number, got 'xxx"),
    ],
)
def test_wrong_values_are_one_line(changes: dict[str, Any], says: str, shapes: dict[str, Any], write: Write) -> None:
    path = write({**shapes["Qwen3-Coder-480B-A35B"].config, **changes})
    with pytest.raises(BadInput) as refusal:
        load_model(path)
    assert f"{path}: {says}" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_a_repeated_key_is_refused_wherever_it_is(write: Write) -> None:
    with pytest.raises(BadInput, match=r"num_experts is given twice, 128 and 8: keep one"):
        load_model(write('{"model_type": "qwen3_moe", "num_experts": 128, "hidden_size": 64, "num_experts": 8}'))
    with pytest.raises(BadInput, match="a is given twice"):
        load_model(write('{"model_type": "qwen3_moe", "rope_scaling": {"a": 1, "a": 2}}'))


def test_only_small_plain_files_are_read(tmp_path: Path) -> None:
    pipe = tmp_path / "config.json"
    os.mkfifo(pipe)
    with pytest.raises(BadInput, match=r"wanted a plain file, got a pipe"):
        load_model(pipe)
    with pytest.raises(BadInput, match=r"wanted a plain file, got a device"):
        load_model(Path("/dev/zero"))
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(BadInput, match="17 MiB is no model config: at most 16 MiB are read"):
        load_model(large)
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    with pytest.raises(BadInput, match="not valid JSON"):
        load_model(deep)
    bytes_file = tmp_path / "bytes.json"
    bytes_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not valid JSON"):
        load_model(bytes_file)


def test_the_weight_index_beside_must_agree(shapes: dict[str, Any], read: Read) -> None:
    config = shapes["OLMoE-1B-7B"].config
    stored = read(config).stored_bytes

    def index(size: object) -> dict[str, object]:
        return {"model__safetensors__index__json": {"metadata": {"total_size": size}, "weight_map": {}}}

    assert read(config, **index(round(stored * 1.01))).experts == 64
    with pytest.raises(BadInput, match=r"total_size: the checkpoint has .* GiB, the config as read .* GiB"):
        read(config, **index(round(stored * 0.9)))
    with pytest.raises(BadInput, match="total_size: wanted bytes, got 'all'"):
        read(config, **index("all"))
    # Kimi-K3's own index, its vision tower included; its experts are mxfp4.
    quantised = copy.deepcopy(shapes["Kimi-K3"].config)
    scheme = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "group_size": 32, "strategy": "group"}}
    rules = ["re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", "re:.*lm_head.*"]
    quantised["text_config"]["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "mxfp4-pack-quantized",
        "config_groups": {"group_0": scheme},
        "ignore": rules,
    }
    model = read(quantised, **index(1_560_860_324_864))
    assert (model.formats.experts.name, model.formats.attention.name) == ("mxfp4", "bf16")
    assert model.stored_bytes == pytest.approx(1_560_860_324_864, rel=0.01)


def _fuzzed(shapes: dict[str, Any], seed: int) -> Iterator[str]:
    """The text of a config with a few values, keys or characters changed."""
    draw = random.Random(seed)
    config = copy.deepcopy(shapes[draw.choice(sorted(shapes))].config)
    odd: tuple[Any, ...] = (
        None,
        0,
        -1,
        10**30,
        1e308,
        float("inf"),
        True,
        "",
        "8",
        [],
        [0],
        {},
        {"a": []},
        ["x"] * 100,
        3.5,
        "\u0000",
    )
    for _ in range(draw.randint(1, 4)):
        table = draw.choice([config, *[value for value in config.values() if isinstance(value, dict) and value]])
        key = draw.choice(sorted(table))
        if draw.random() < 0.75:
            table[key] = copy.deepcopy(draw.choice(odd))
        elif draw.random() < 0.5:
            del table[key]
        else:
            table[draw.choice(("quantization_config", "layer_types", "mlp_layer_types", "text_config", "moe_layer_freq"))] = (
                copy.deepcopy(draw.choice(odd))
            )
        if not config:
            break
    text = json.dumps(config)
    if draw.random() < 0.1:
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice('{}[]",:x') + text[at + 1 :]
    yield text


def test_no_config_whatever_it_holds_gives_a_traceback(shapes: dict[str, Any], write: Write, long: bool) -> None:
    for seed in range(2500 if long else 250):
        for text in _fuzzed(shapes, seed):
            try:
                assert load_model(write(text)).summary
            except BadInput as refusal:
                assert "\n" not in str(refusal)
                assert len(str(refusal)) < 400, seed
