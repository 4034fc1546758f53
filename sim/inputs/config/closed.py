"""The closed world: what to do with keys that no family reader asked for."""

from __future__ import annotations

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


def close(keys: Keys, *, outside: bool = False) -> tuple[str, ...]:
    """The unused keys that an answer names. Raises BadInput for one that may be structure and was read by nobody.

    ``outside``: the object is a wrapper around the language model, whose numbers and lists speak of other parts: names decide.
    """
    named = []
    for key, value in keys.left().items():
        if key in INERT or key.endswith(INERT_ENDINGS):
            continue
        if _structural(key, value, outside):
            keys.refuse(
                key, "may speak of the model's structure, and this family's reader does not know it: remove it, if it does not"
            )
        named.append(key)
    return tuple(sorted(named))


def _structural(key: str, value: Any, outside: bool) -> bool:
    if not outside and (value is True or isinstance(value, list | dict) or (isinstance(value, int) and value is not False)):
        return True
    lowered = key.lower()
    return any(part in lowered for part in _STRUCTURE.split())
