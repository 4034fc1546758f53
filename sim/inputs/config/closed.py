"""The closed world: what to do with keys that no family reader asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .inert import INERT, INERT_ENDINGS
from .keys import Keys

#: Parts of names that speak of a model's structure. A list, a number or an object under any unknown name does too.
_STRUCTURE = """
expert moe mamba ssm linear shared share dense sliding window interval pattern layer index residual global local cross
head dim size rank num hidden inter width depth kernel conv state group vocab attn attention mlp ffn feed block type
period offset freq step every lora latent tie chunk ratio top router route gate gating kv key value query embed sparse
hybrid compress delta cache channel matri matrix project mtp nextn skip loop repeat memory gqa mqa mla swa quant bit
dtype param split
"""


def close(keys: Keys) -> tuple[str, ...]:
    """The unused keys that an answer names. Raises BadInput for one that may be structure and was read by nobody."""
    named = []
    for key, value in keys.left().items():
        if key in INERT or key.endswith(INERT_ENDINGS):
            continue
        if _structural(key, value):
            keys.refuse(
                key, "says something of the model's structure that this family's reader does not read: remove it if it does not"
            )
        named.append(key)
    return tuple(sorted(named))


def close_all(objects: Iterable[Keys]) -> tuple[str, ...]:
    """`close` of several objects of one file."""
    return tuple(sorted({key for keys in objects for key in close(keys)}))


def _structural(key: str, value: Any) -> bool:
    if value is True or isinstance(value, list | dict) or (isinstance(value, int) and not isinstance(value, bool)):
        return True
    lowered = key.lower()
    return any(part in lowered for part in _STRUCTURE.split())
