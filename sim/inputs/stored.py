"""How a checkpoint stores each kind of its weights, and its KV cache: a name of the field, what computes it, bits a value."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..precision import WEIGHT_BYTES, Dtype

#: Kinds of weights that checkpoints store differently.
Kind = Literal["attention", "dense", "shared", "experts", "head"]
KINDS: tuple[Kind, ...] = ("attention", "dense", "shared", "experts", "head")


#: Formats by name: what computes them, and bits of a weight with its scales. fp8: one fp32 scale per 128 x 128 block. nvfp4:
#: one byte per 16 (Introducing NVFP4, NVIDIA, 2025-06-24). mxfp4, mxfp8: one byte per 32 (OCP Microscaling Formats 1.0,
#: section 5).
_NAMED: dict[str, tuple[Dtype, float]] = {
    "bf16": ("bf16", 16.0),
    "fp8": ("fp8", 8.0 * WEIGHT_BYTES["fp8"]),
    "fp8 channel": ("fp8", 8.0),
    "mxfp8": ("fp8", 8.25),
    "int8": ("fp8", 8.0),
    "nvfp4": ("fp4", 4.5),
    "mxfp4": ("fp4", 4.25),
}


class Format(BaseModel):
    """``name``: as the field calls it (nvfp4, int4 g128, fp8 block). ``dtype``: the kernels that compute it. ``bits``: of one
    weight in memory, its scales and zero points shared out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: Dtype
    bits: Annotated[float, Field(gt=0.0, le=32.0)]

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """A bare name stands for one of the known formats."""
        if isinstance(value, str):
            if value not in _NAMED:
                raise ValueError(f"{value!r} is none of {', '.join(_NAMED)}")
            dtype, bits = _NAMED[value]
            return {"name": value, "dtype": dtype, "bits": bits}
        return value


def plain(dtype: Dtype) -> Format:
    """The format that a bare precision stands for: bf16, fp8 in 128 x 128 blocks, nvfp4."""
    return named({"bf16": "bf16", "fp8": "fp8", "fp4": "nvfp4"}[dtype])


def named(name: str) -> Format:
    """A known format by its name."""
    dtype, bits = _NAMED[name]
    return Format(name=name, dtype=dtype, bits=bits)


def grouped_int4(group: int | None) -> Format:
    """Four-bit integers with one fp16 scale for every ``group`` of values of a column (None: one for the whole column)."""
    return Format(name=f"int4 g{group}" if group else "int4 channel", dtype="fp4", bits=4.0 + (16.0 / group if group else 0.0))


class Stored(BaseModel):
    """One format for each kind of weights; embeddings, router and norms are bf16. ``kv``: what the checkpoint asks its cache to
    be kept in, None where it does not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attention: Format
    dense: Format
    shared: Format
    experts: Format
    head: Format
    kv: Dtype | None = None

    def of(self, kind: Kind) -> Format:
        """The format of one kind."""
        found: Format = getattr(self, kind)
        return found

    def words(self, kinds: tuple[Kind, ...]) -> str:
        """The formats of the ``kinds`` that a model has, in a few words: the last one's first, then what differs from it."""
        first = self.of(kinds[-1]).name
        differ: dict[str, list[str]] = {}
        for kind in kinds[:-1]:
            if self.of(kind).name != first:
                differ.setdefault(self.of(kind).name, []).append(kind)
        rest = "".join(f", {' and '.join(others)} in {name}" for name, others in differ.items())
        if len(differ) == 1 and len(next(iter(differ.values()))) == len(kinds) - 1:
            rest = f", the rest in {next(iter(differ))}"
        head = "" if self.head.name in ("bf16", first) else f", head in {self.head.name}"
        return f"{first}{rest}{head}"

    def formats(self) -> Iterator[tuple[Kind, Format]]:
        """Every kind with its format."""
        return ((kind, self.of(kind)) for kind in KINDS)


@cache
def stored_as(weights: Dtype, experts: Dtype) -> Stored:
    """What two bare precisions stand for: everything but the routed experts in the one, these in the other, the head in
    bf16.
    """
    rest = plain(weights)
    return Stored(attention=rest, dense=rest, shared=rest, experts=plain(experts), head=plain("bf16"))
