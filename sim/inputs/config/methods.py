"""The rules of each method of quantisation: what a linear layer is stored in, and what the KV cache is asked to be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...precision import Dtype
from ..stored import Format, Kind, grouped_int4, named
from .document import clipped, shown
from .keys import Keys
from .modules import Module, Rules
from .number_format import group_size, of_algorithm, of_integers, of_quark, of_scheme

BF16 = named("bf16")
#: What a method says of one linear layer.
Rule = Callable[[Module], Format]


def _unless(form: Format, rules: Rules) -> Rule:
    return lambda module: BF16 if rules.name(module) else form


def _rules(keys: Keys, *names: str, anywhere: bool = True, also: tuple[str, ...] = ()) -> Rules:
    """The lists of modules that stay as they are."""
    patterns = [*also]
    for name in names:
        patterns += keys.words(name) or []
    return _compiled(keys, names[0], patterns, anywhere=anywhere)


def _compiled(keys: Keys, key: str, patterns: Iterable[str], *, anywhere: bool = True) -> Rules:
    """Patterns as rules. Raises BadInput naming ``key`` for one that is no regular expression."""
    try:
        return Rules(patterns, anywhere=anywhere)
    except ValueError as error:
        keys.refuse(key, clipped(str(error), 160))


def kv_of(keys: Keys) -> Dtype | None:
    """What the KV cache is asked to be kept in."""
    word = keys.word("kv_cache_quant_algo", "kv_cache_dtype")
    scheme = keys.table("kv_cache_scheme")
    if scheme is not None:
        bits, kind = scheme.count("num_bits"), scheme.word("type", default="float")
        word = {8: "FP8", 4: "NVFP4", 16: None}.get(bits, f"{bits}-bit {kind}")
    if word is None or word.upper() in ("NONE", "AUTO", "BF16", "FP16"):
        return None
    if word.upper().startswith(("FP8", "INT8")):
        return "fp8"
    if word.upper().startswith(("NVFP4", "FP4")):
        return "fp4"
    keys.refuse("kv_cache_quant_algo", f"{shown(word)} is none of FP8, INT8, NVFP4 and none")


def _fp8(keys: Keys) -> tuple[Rule, Dtype | None]:
    """Block or channel FP8 of every linear but the listed ones, the head and the router."""
    form = named("fp8" if keys.raw("weight_block_size") else "fp8 channel")
    rules = _rules(keys, "modules_to_not_convert", "ignored_layers", "ignore", also=("lm_head", "head", "output"))
    store = keys.word("store_dtype")
    keys.ignore("mxfp4_block_size")
    if store not in (None, "mxfp4", "fp8"):
        keys.refuse("store_dtype", f"{shown(store)} is neither fp8 nor mxfp4")
    narrow = named("mxfp4") if store == "mxfp4" else form
    return (lambda m: BF16 if rules.name(m) else narrow if m.kind == "experts" else form), kv_of(keys)


def _fbgemm(keys: Keys) -> tuple[Rule, Dtype | None]:
    rules = _rules(keys, "modules_to_not_convert", also=("lm_head",))
    return _unless(named("fp8 channel"), rules), None


def _mxfp4(keys: Keys) -> tuple[Rule, Dtype | None]:
    """gpt-oss's: the experts, unless the list names them."""
    rules = _rules(keys, "modules_to_not_convert")
    return (lambda m: named("mxfp4") if m.kind == "experts" and not rules.name(m) else BF16), None


def _w4afp8(keys: Keys) -> tuple[Rule, Dtype | None]:
    """Experts of four-bit integers in groups of 128, the rest FP8 in blocks (SGLang's w4afp8)."""
    rules = _rules(keys, "ignored_layers", "modules_to_not_convert", also=("lm_head", "head", "output"))
    keys.ignore("weight_block_size")
    experts = grouped_int4(group_size(keys) or 128)
    return (lambda m: BF16 if rules.name(m) else experts if m.kind == "experts" else named("fp8")), kv_of(keys)


def _integers(keys: Keys) -> tuple[Rule, Dtype | None]:
    """AWQ, GPTQ and AutoRound: every linear but the head and the listed ones."""
    form = of_integers(keys, keys.count("bits", "w_bit", "wbits"), group_size(keys))
    patterns = ["lm_head", "head", "output"]
    dynamic = keys.raw("dynamic") or {}
    if not isinstance(dynamic, Mapping):
        keys.refuse("dynamic", f"wanted an object, got {shown(dynamic)}")
    for pattern, change in dynamic.items():
        if not pattern.startswith("-:"):
            keys.refuse("dynamic", f"{shown(pattern)}: {shown(change)} is not read: only modules left out (-:) are")
        patterns.append(pattern)
    extra = keys.raw("extra_config", "layer_config") or {}
    for name, change in extra.items() if isinstance(extra, Mapping) else ():
        bits = change.get("bits") if isinstance(change, Mapping) else None
        if bits is not None and bits < 16 and bits != keys.raw("bits"):
            keys.refuse("extra_config", f"{shown(name)} has {bits} bits, the rest others: one width is read")
        if bits is not None and bits >= 16:
            patterns.append(name)
    only = keys.raw("modules_in_block_to_quantize", "block_name_to_quantize")
    rules = _rules(keys, "modules_to_not_convert", also=tuple(patterns))
    if isinstance(only, list):
        names = [leaf for group in only for leaf in (group if isinstance(group, list) else [group])]
        inside = _compiled(keys, "modules_in_block_to_quantize", [str(name) for name in names])
        return (lambda m: form if inside.name(m) and not rules.name(m) else BF16), None
    return _unless(form, rules), None


def _bitsandbytes(keys: Keys) -> tuple[Rule, Dtype | None]:
    four = keys.flag("load_in_4bit", "_load_in_4bit")
    eight = keys.flag("load_in_8bit", "_load_in_8bit")
    double = keys.flag("bnb_4bit_use_double_quant")
    kind = keys.word("bnb_4bit_quant_type", default="nf4")
    keys.ignore(
        "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight"
    )
    keys.ignore("llm_int8_threshold")
    if four == eight:
        keys.refuse("load_in_4bit", "one of load_in_4bit and load_in_8bit must be true")
    # One fp32 per 64 values (QLoRA, arXiv 2305.14314), or an 8-bit one and an fp32 per 256 of these.
    bits = 4.0 + (8.0 / 64 + 32.0 / (64 * 256) if double else 32.0 / 64)
    form = Format(name=str(kind), dtype="fp4", bits=bits) if four else named("int8")
    return _unless(form, _rules(keys, "llm_int8_skip_modules", also=("lm_head", "head", "output"))), None


def _modelopt(keys: Keys) -> tuple[Rule, Dtype | None]:
    """One algorithm for every linear but the excluded ones, or a table of them by layer (``quantized_layers``)."""
    kv = kv_of(keys)
    keys.ignore("weight_block_size")
    group = group_size(keys)
    algorithm, experts = keys.word("quant_algo"), keys.word("moe_quant_algo")
    rules = _rules(
        keys, "exclude_modules", "ignore", "ignored_layers", "modules_to_not_convert", anywhere=False, also=("lm_head",)
    )
    groups = keys.raw("config_groups")
    listed = keys.raw("quantized_layers")
    base = named("fp8") if keys.word("quant_method") == "fp8" else BF16
    if (algorithm or "").upper() == "MIXED_PRECISION" or (algorithm is None and listed):
        if not isinstance(listed, Mapping) or not listed:
            keys.refuse("quantized_layers", "MIXED_PRECISION wants the algorithm of every layer, the file has none")
        by_kind = _tally(keys, listed, group)
        if experts is not None:
            by_kind["experts"] = of_algorithm(keys, experts, group)
        return (lambda m: by_kind.get(m.kind, base if m.kind != "head" else BF16)), kv
    if algorithm is None:
        if not isinstance(groups, Mapping):
            keys.refuse("quant_algo", "wanted the name of an algorithm, the file has none")
        return _compressed_groups(keys, groups, "", rules), kv
    form = of_algorithm(keys, algorithm, group)
    narrow = form if experts is None else of_algorithm(keys, experts, group)
    return (lambda m: BF16 if rules.name(m) else narrow if m.kind == "experts" else form), kv


def _tally(keys: Keys, listed: Mapping[str, Any], group: int | None) -> dict[Kind, Format]:
    """The algorithm that most of the listed layers of a kind have."""
    votes: dict[Kind, Counter[Format]] = defaultdict(Counter)
    for name, said in listed.items():
        algorithm = said.get("quant_algo") if isinstance(said, Mapping) else said
        if not isinstance(algorithm, str):
            keys.refuse("quantized_layers", f"{shown(name)}: wanted a quant_algo, got {shown(said)}")
        own = said.get("group_size") if isinstance(said, Mapping) else None
        votes[_kind_named(name)][of_algorithm(keys, algorithm, own if isinstance(own, int) else group)] += 1
    return {kind: counted.most_common(1)[0][0] for kind, counted in votes.items()}


def _kind_named(name: str) -> Kind:
    lowered = name.lower()
    if "shared_expert" in lowered or "shared_mlp" in lowered:
        return "shared"
    if "expert" in lowered:
        return "experts"
    if lowered.endswith(("lm_head", "output")):
        return "head"
    return "attention" if any(part in lowered for part in ("attn", "attention", "mamba", "mixer")) else "dense"


def _compressed(keys: Keys) -> tuple[Rule, Dtype | None]:
    groups = keys.raw("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        keys.refuse("config_groups", f"wanted an object of groups, got {shown(groups)}")
    written = keys.word("format", default="") or ""
    for inert in ("sparsity_config", "transform_config"):
        if keys.raw(inert) not in (None, {}):
            keys.refuse(inert, "sparse or rotated weights are not read: serve another checkpoint of the model")
    rules = _rules(keys, "ignore", anywhere=False)
    return _compressed_groups(keys, groups, written, rules), kv_of(keys)


def _compressed_groups(keys: Keys, groups: Mapping[str, Any], written: str, rules: Rules) -> Rule:
    """Every linear by the first group whose targets name it, unless ignored."""
    targeted: list[tuple[Rules | None, Format]] = []
    for name, each in groups.items():
        if not isinstance(each, Mapping) or not isinstance(each.get("weights"), Mapping):
            keys.refuse("config_groups", f"{shown(name)}: wanted an object with weights, got {shown(each)}")
        targets = each.get("targets", ["Linear"])
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            keys.refuse("config_groups", f"{shown(name)}: targets: wanted a list of strings, got {shown(targets)}")
        form = of_scheme(keys, each["weights"], str(each.get("format") or written))
        whole = any(target in ("Linear", "FusedMoE") for target in targets)
        targeted.append((None if whole else _compiled(keys, "config_groups", targets, anywhere=False), form))
    # Regular expressions are tried before whole classes of modules.
    targeted.sort(key=lambda pair: pair[0] is None)

    def rule(module: Module) -> Format:
        if rules.name(module):
            return BF16
        return next((form for target, form in targeted if target is None or target.name(module)), BF16)

    return rule


def _quark(keys: Keys) -> tuple[Rule, Dtype | None]:
    """A format for everything, others for the layers that rules name, and what is excluded."""
    whole = keys.table("global_quant_config")
    form = None if whole is None else of_quark(whole)
    rules = _rules(keys, "exclude", also=("lm_head",))
    special: list[tuple[Rules, Format]] = []
    by_layer = keys.raw("layer_quant_config") or {}
    if not isinstance(by_layer, Mapping):
        keys.refuse("layer_quant_config", f"wanted an object, got {shown(by_layer)}")
    for pattern, each in by_layer.items():
        if not isinstance(each, Mapping):
            keys.refuse("layer_quant_config", f"{shown(pattern)}: wanted an object, got {shown(each)}")
        special.append(
            (
                _compiled(keys, "layer_quant_config", [pattern]),
                of_quark(Keys(each, f"{keys.where}: layer_quant_config")) or BF16,
            )
        )
    cache = keys.raw("kv_cache_quant_config")
    keys.ignore("kv_cache_group")

    def rule(module: Module) -> Format:
        if rules.name(module):
            return BF16
        return next((own for target, own in special if target.name(module)), form or BF16)

    return rule, "fp8" if cache else None


#: torchao's configurations, by the name of their class or of the function they were called as before.
_TORCHAO = {
    "int8weightonly": "int8",
    "int8dynamicactivationint8weight": "int8",
    "float8weightonly": "fp8 channel",
    "float8dynamicactivationfloat8weight": "fp8 channel",
    "nvfp4inference": "nvfp4",
    "nvfp4dynamicactivationnvfp4weight": "nvfp4",
    "mxfp8": "mxfp8",
    "mxfp4": "mxfp4",
}


def _torchao(keys: Keys) -> tuple[Rule, Dtype | None]:
    said = keys.raw("quant_type")
    arguments: Mapping[str, Any] = {}
    keyword = keys.raw("quant_type_kwargs")
    if isinstance(said, Mapping):
        inner = said.get("default", said)
        if set(said) - {"default", "_type", "_data", "_version"} or not isinstance(inner, Mapping):
            keys.refuse("quant_type", f"{shown(said)}: only one configuration for all layers (default) is read")
        data = inner.get("_data")
        arguments, said = (data if isinstance(data, Mapping) else {}), inner.get("_type")
    elif isinstance(keyword, Mapping):
        arguments = keyword
    name = str(said).lower().replace("_", "").removesuffix("config")
    group = arguments.get("group_size")
    if name in (
        "int4weightonly",
        "int4dynamicactivationint4weight",
        "int8dynamicactivationint4weight",
        "float8dynamicactivationint4weight",
    ):
        form = grouped_int4(keys.checked("group_size", 128 if group is None else group, 8, 1 << 16))
    elif name in _TORCHAO:
        form = named(_TORCHAO[name])
    else:
        keys.refuse("quant_type", f"{shown(said)} is none of Int4WeightOnly, {', '.join(sorted(_TORCHAO))}")
    return _unless(form, _rules(keys, "modules_to_not_convert", also=("lm_head", "head", "output"))), None


def _mistral(keys: Keys) -> tuple[Rule, Dtype | None]:
    """Mistral's own files: FP8 of every linear but the head."""
    form = keys.word("qformat_weight")
    keys.ignore("qscheme_act")
    if form != "fp8_e4m3":
        keys.refuse("qformat_weight", f"{shown(form)} is not fp8_e4m3")
    return _unless(named("fp8 channel"), _rules(keys, "modules_to_not_convert", also=("lm_head", "head", "output"))), None


def _mlx(keys: Keys) -> tuple[Rule, Dtype | None]:
    """MLX: a scale and a bias of fp16 for every group, the head too; layers named apart have other bits, or none."""
    mode = keys.word("mode", default="affine")
    bits, group = keys.count("bits"), keys.count("group_size")
    if mode in ("mxfp4", "nvfp4", "mxfp8"):
        form = named(str(mode))
    elif mode == "affine" and bits in (3, 4, 5, 6, 8):
        form = Format(name=f"int{bits} g{group}", dtype="fp4" if bits < 6 else "fp8", bits=bits + 32.0 / group)
    else:
        keys.refuse(
            "mode" if mode != "affine" else "bits", f"{shown(mode)} with {bits} bits is not read: affine with 3 to 8, or mxfp4"
        )
    special: list[tuple[Rules, Format]] = []
    for name, change in list(keys.left().items()):
        if "." not in name and not isinstance(change, Mapping | bool):
            continue
        keys.ignore(name)
        if change is False:
            special.append((_compiled(keys, name, [name], anywhere=False), BF16))
        elif isinstance(change, Mapping):
            own = Keys(change, f"{keys.where}: {name}")
            wide, size = own.count("bits", default=bits), own.count("group_size", default=group)
            other = Format(name=f"int{wide} g{size}", dtype="fp4" if wide < 6 else "fp8", bits=wide + 32.0 / size)
            special.append((_compiled(keys, name, [name], anywhere=False), other))

    def rule(module: Module) -> Format:
        return next((own for target, own in special if target.name(module)), form)

    return rule, None


#: ``quant_method`` in small letters -> its rules.
METHODS: dict[str, Callable[[Keys], tuple[Rule, Dtype | None]]] = {
    "fp8": _fp8,
    "fbgemm-fp8": _fbgemm,
    "mxfp4": _mxfp4,
    "w4afp8": _w4afp8,
    "awq": _integers,
    "gptq": _integers,
    "auto-round": _integers,
    "bitsandbytes": _bitsandbytes,
    "modelopt": _modelopt,
    "compressed-tensors": _compressed,
    "quark": _quark,
    "torchao": _torchao,
    "mlx": _mlx,
    "mistral": _mistral,
}
