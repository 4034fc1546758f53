"""One format of numbers as quantisation configs describe it: bits, type, group, or the name of an algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..stored import Format, grouped_int4, named
from .document import shown
from .keys import Keys

#: ModelOpt's algorithms (their names in hf_quant_config.json), group size apart.
_ALGORITHMS = {
    "FP8": "fp8 channel",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8 channel",
    "FP8_PB_WO": "fp8",
    "FP8_PB_REAL": "fp8",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "NVFP4_SVDQUANT": "nvfp4",
    "W4A8_NVFP4_FP8": "nvfp4",
    "W4A16_NVFP4": "nvfp4",
    "W4A8_MXFP4_FP8": "mxfp4",
    "MXFP4": "mxfp4",
    "MXFP8": "mxfp8",
    "INT8_SQ": "int8",
    "W8A8_SQ_PER_CHANNEL": "int8",
    "W8A16": "int8",
}


def of_algorithm(keys: Keys, name: str, group: int | None = None) -> Format:
    """A ModelOpt algorithm. Raises BadInput for one that nothing here describes."""
    upper = name.upper()
    if upper in _ALGORITHMS:
        return named(_ALGORITHMS[upper])
    if upper in ("W4A16_AWQ", "W4A8_AWQ", "W4A16", "W4A8"):
        return grouped_int4(group or 128)
    keys.refuse("quant_algo", f"{shown(name)} is none of {', '.join(sorted(_ALGORITHMS))}, W4A16_AWQ, W4A8_AWQ")


def of_integers(keys: Keys, bits: int, group: int | None) -> Format:
    """Integers of AWQ, GPTQ and their like, by bits and group. Raises BadInput for anything but 4 and 8 bits."""
    if bits == 4:
        return grouped_int4(group)
    if bits == 8:
        return named("int8") if not group else Format(name=f"int8 g{group}", dtype="fp8", bits=8.0 + 16.0 / group)
    keys.refuse("bits", f"{bits} bits have no kernel here: 4 and 8 are read; set it, or serve another checkpoint")


def group_size(keys: Keys, *names: str) -> int | None:
    """Values that share a scale; -1 and 0 mean a whole column."""
    value = keys.raw(*(names or ("group_size", "q_group_size")))
    if value is None or value in (-1, 0):
        return None
    return keys.checked("group_size", value, 8, 1 << 16)


def of_scheme(keys: Keys, weights: Mapping[str, Any], written: str) -> Format:
    """Weights of a compressed-tensors group. ``written``: the file's own ``format``. Raises BadInput."""
    own = Keys(weights, f"{keys.where}: weights")
    bits, kind, strategy = own.count("num_bits"), own.word("type", default="int"), own.word("strategy", default="") or ""
    group = group_size(own)
    block = own.raw("block_structure", "block_size")
    own.ignore("symmetric", "dynamic", "observer", "observer_kwargs", "actorder", "scale_dtype", "zp_dtype")
    for key in own.left():
        own.refuse(key, "is no part of a format that this reads")
    if kind == "float" and bits == 4:
        micro = "mxfp4" in written or group == 32
        if not micro and "nvfp4" not in written and group not in (16, None):
            own.refuse("group_size", f"4-bit floats in groups of {group} are neither nvfp4 (16) nor mxfp4 (32)")
        return named("mxfp4" if micro else "nvfp4")
    if kind == "float" and bits == 8:
        if group == 32 or "mxfp8" in written:
            return named("mxfp8")
        return named("fp8" if strategy == "block" or block else "fp8 channel")
    if kind == "int" and bits in (4, 8):
        return of_integers(own, bits, group if strategy != "channel" else None)
    own.refuse("num_bits", f"{bits}-bit {kind} is none of 4- and 8-bit int and float")


def of_quark(keys: Keys) -> Format | None:
    """Weights of one of Quark's configs, None where it leaves them alone. Raises BadInput."""
    value = keys.raw("weight")
    first = value[0] if isinstance(value, list) and value else value
    if not first:
        return None
    if not isinstance(first, Mapping):
        keys.refuse("weight", f"wanted an object, got {shown(value)}")
    own = Keys(first, f"{keys.where}: weight")
    dtype, scheme, group = own.word("dtype"), own.word("qscheme", default=""), group_size(own)
    if dtype in ("fp4", "mxfp4", "mx_fp4", "fp4_e2m1"):
        return named("mxfp4" if group in (32, None) else "nvfp4")
    if dtype in ("fp8_e4m3", "fp8", "fp8_e5m2"):
        return named("fp8" if scheme in ("per_block", "per_group") else "fp8 channel")
    if dtype in ("int4", "uint4"):
        return grouped_int4(group if scheme == "per_group" else None)
    if dtype in ("int8", "uint8"):
        return named("int8")
    own.refuse("dtype", f"{shown(dtype)} is none of fp4, fp8_e4m3, int4, int8")
