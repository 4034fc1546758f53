"""Which rows would tell what a fit of our own kernels could not: names of bench's cases and tokens a rank."""

from __future__ import annotations

from collections.abc import Iterator

from ....sim.ep.protocols.epicycle import HT, LL
from ...tables.own.launches import Key
from .constants import SAME, OwnFit, undetermined_of

#: Bench's cases of a kernel where they are called otherwise than its op (validate/bench/cases).
_CASES = {
    (LL, "dispatch_send"): "ll_send_*", (LL, "dispatch_receive"): "ll_receive_*", (LL, "combine_send"): "ll_give_back_*",
    (LL, "combine_receive"): "ll_combine_*",
}  # fmt: skip
#: constant -> the tokens at which it is what a kernel's time consists of.
_TOKENS = {"launch": (1, 16), "chain": (1, 16), "hbm_efficiency": (1024, 4096), "chain_row": (64, 128)}
#: The same of a product; its fill shows where two products differ in depth, as an expert's two do.
_PRODUCT = {
    "launch": (1,), "hbm_efficiency": (1, 16), "tensor_efficiency": (1024, 4096), "sharpness": (128, 256), "fill": (1024,),
}  # fmt: skip
#: Low latency is timed up to here.
_MOST_LOW_LATENCY = (128, 256)


def rows_that_tell(found: OwnFit) -> Iterator[str]:
    """A line for every set of rows that would tell something: which constants, which cases at how many tokens.

    What its own rows at those tokens do not tell is nothing beside what they do: no row is asked for.
    """
    wanted: dict[tuple[tuple[int, ...], str], dict[str, None]] = {}
    for key in (key for key in found.constants if key not in SAME):
        product = key[1].startswith("product.")
        lost = [name for name in undetermined_of(found, key) if name in (_PRODUCT if product else _TOKENS)]
        by_tokens: dict[tuple[int, ...], list[str]] = {}
        for name in lost:
            tokens = (_PRODUCT if product else _TOKENS)[name]
            tokens = _MOST_LOW_LATENCY if key[0] == LL and max(tokens) > max(_MOST_LOW_LATENCY) else tokens
            if not set(tokens) <= _seen(found, key, deep=name == "fill"):
                by_tokens.setdefault(tokens, []).append(name)
        for tokens, names in by_tokens.items():
            wanted.setdefault((tokens, ", ".join(names)), {})[_case(key)] = None
    for (tokens, which), cases in wanted.items():
        at = " and ".join(f"{n:,}" for n in tokens) + (" token" if tokens == (1,) else " tokens")
        yield f"{which}: epicycle bench {' '.join(f'--kernels {case!r}' for case in cases)}, {at} a rank"


def _seen(found: OwnFit, key: Key, deep: bool) -> set[int]:
    """Tokens of the rows of a kernel alone; ``deep``: of the other depth that its products have."""
    rows = (row for row in found.rows if {part.key for part in row.parts} == {key})
    return {row.tokens for row in rows if not deep or row.op.endswith("-down")}


def _case(key: Key) -> str:
    protocol, op = key
    if key in _CASES:
        return _CASES[key]
    if op.startswith("product."):
        return f"gemm_*_{op.removeprefix('product.')}*"
    return f"ht_{op}_*" if protocol == HT else op.replace(".", "_")
