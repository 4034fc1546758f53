"""From a file to the fields of ``MoeModel``: unwrap, find the family, read it, close the world, read its number formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....hwmodels.errors import BadInput
from ..stored import stored_as
from .closed import close
from .document import read_object
from .family import reader_of
from .feed_forward import mtp
from .index import check_index
from .keys import Keys
from .quantised import stored_of
from .wrapper import Unwrapped


@dataclass(frozen=True, slots=True)
class Read:
    """``facts``: fields of ``MoeModel`` but name and sources. ``check``: holds the bytes and counts of what was read against
    the weight index beside the file, where there is one (see `check_index`).
    """

    path: Path
    name: str
    facts: dict[str, Any]
    check: Callable[[float, int, int], None]


def read_config(path: Path) -> Read:
    """The model of ``path``: a config.json, a params.json of Mistral's, or a folder that holds one. Raises BadInput."""
    path = _file_in(path)
    document = read_object(path)
    where = str(path)
    if "model_type" not in document and "architectures" not in document and "n_layers" in document and "dim" in document:
        document = {"model_type": "mistral_params", **document}
    found = Unwrapped(document, where)
    keys = found.keys
    reader = reader_of(found.kinds, where)
    facts = reader(keys)
    inside: tuple[Keys, ...] = facts.pop("inside", ())
    facts = {**facts, **mtp(keys)}
    stored = stored_of(keys, path.parent / "hf_quant_config.json", facts)
    named = {key for each in (keys, *inside) for key in close(each)}
    named |= {key for each in found.outside for key in close(each, outside=True)}
    unused = (*sorted(named), *found.overruled)
    _experts_read(found.kinds, facts, keys)
    if stored is not None:
        plain = {"weight_dtype": stored.formats.dense.dtype, "expert_dtype": stored.formats.experts.dtype}
        bare = stored.formats == stored_as(plain["weight_dtype"], plain["expert_dtype"])
        facts |= {"stored": None if bare else stored.formats, **plain}
        unused = (*unused, *stored.unused)
    name = path.parent.resolve().name if path.name in ("config.json", "params.json") else path.stem
    index = path.parent / "model.safetensors.index.json"
    towers = found.towers

    def check(stored_bytes: float, mtp_params: int, total_params: int) -> None:
        check_index(index, stored_bytes, mtp_params * stored_bytes / total_params, towers=towers)

    return Read(path, name, {**facts, "unused": unused}, check)


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = next((path / name for name in ("config.json", "params.json") if (path / name).exists()), None)
    return found or path / "config.json"


def _experts_read(kinds: list[str], facts: dict[str, Any], keys: Keys) -> None:
    """Raises BadInput where the family's name speaks of experts, none were read, and the file does not say that there are
    none.
    """
    names = [kind for kind in kinds if "moe" in kind.lower()]
    counted = [keys.raw(name) for name in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")]
    if names and facts["experts"] == 0 and 0 not in counted:
        raise BadInput(
            f"{keys.where}: model_type: {names[0]} is a family of experts, and the file counts none: add num_experts"
        )
