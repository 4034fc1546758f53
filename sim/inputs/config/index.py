"""``model.safetensors.index.json`` beside a config: the bytes that the checkpoint says it has, held against what was read."""

from __future__ import annotations

from pathlib import Path

from ....hwmodels.errors import BadInput
from ....hwmodels.units import format_bytes
from .document import read_object, shown

#: Largest index read: one line for every tensor of every expert.
MAX_BYTES = 256 * 2**20
#: Share by which the index's total may differ: norms, biases, scales and padding of the vocabulary.
SHARE = 0.02
#: What encoders of images and sound add at most. The largest published beside a language model (InternVL's) has 6 B weights.
TOWER_BYTES = 12e9


def check_index(path: Path, stored_bytes: float, mtp_bytes: float, *, towers: bool) -> None:
    """Raises BadInput if the index's total is not within 2 % of ``stored_bytes``, with or without the MTP layers' bytes.

    ``towers``: a wrapper's other parts lie in the same files; then more is allowed, up to `TOWER_BYTES`.
    """
    if not path.exists():
        return
    found = read_object(path, MAX_BYTES).get("metadata")
    total = found.get("total_size") if isinstance(found, dict) else None
    if total is None:
        return
    if isinstance(total, bool) or not isinstance(total, int | float) or not total > 0:
        raise BadInput(f"{path}: total_size: wanted bytes, got {shown(total)}")
    least = stored_bytes * (1 - SHARE)
    most = (stored_bytes + mtp_bytes * 1.5) * (1 + SHARE) + (TOWER_BYTES if towers else 0.0)
    near = any(abs(total / (stored_bytes + extra) - 1) <= SHARE for extra in (0.0, mtp_bytes))
    if near or (least <= total <= most and (towers or mtp_bytes > 0)):
        return
    raise BadInput(
        f"{path}: total_size: the checkpoint has {format_bytes(total, binary=True)}, the config as read "
        f"{format_bytes(stored_bytes, binary=True)}: one of the two files is another model's, or this family is read wrongly"
    )
