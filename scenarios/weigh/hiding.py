"""What a sentence about two steps says of overlap and of memory, which no part's own time shows."""

from __future__ import annotations

from collections.abc import Sequence

from ...hwmodels.units import format_time
from ..answer.evaluation import Evaluation, PartTime, Pool, StepTime

_TOLD = 0.01  # of the step: less hidden time than this is not told
_NAMED = 3
_BATCH = 0.02  # a batch that moved by less is the same
_ROOM = 0.01  # of HBM: less is no room
KV_CACHE = "KV cache"


def hidden_s(step: StepTime) -> float:
    """Seconds of a step's parts that its time does not show."""
    return sum(part.seconds - part.exposed_s for part in step.parts)


def hiding(before: StepTime, after: StepTime) -> str:
    """What overlap hides in one of the two and not in the other, and what the parts themselves then take; else ""."""
    gained = hidden_s(after) - hidden_s(before)
    if abs(gained) < _TOLD * max(before.seconds, after.seconds):
        return ""
    own = {part.name: part.seconds for part in before.parts}
    theirs = {part.name: part.seconds for part in after.parts}
    paid = sum(theirs.values()) - sum(own.values())
    side = after if gained > 0 else before
    verb = "hide" if gained > 0 else "no longer hide"
    told = f"{format_time(abs(gained))} {_unseen(side.parts)} {verb} {_behind(side.parts)}"
    moved = sorted(own | theirs, key=lambda name: -(theirs.get(name, 0.0) - own.get(name, 0.0)) * (1 if paid > 0 else -1))
    named = [
        _changed(name, own.get(name), theirs.get(name))
        for name in moved[:_NAMED]
        if (theirs.get(name, 0.0) - own.get(name, 0.0)) * paid > 0
    ]
    if not named or abs(paid) < _TOLD * max(before.seconds, after.seconds):
        return told
    return (
        f"{told}; the parts themselves take {format_time(abs(paid))} {'more' if paid > 0 else 'less'}, mostly {_listed(named)}"
    )


def room(a: Evaluation, b: Evaluation) -> str:
    """Why more or fewer sequences decode together, if what lies beside the KV cache grew or shrank; else ""."""
    own, theirs = _decoding(a), _decoding(b)
    if own is None or theirs is None or not own.memory or not theirs.memory or not own.steps[0].batch:
        return ""
    before, after = own.steps[0].batch, theirs.steps[0].batch
    kv, beside = _split(own)
    kv_after, beside_after = _split(theirs)
    freed = own.hbm_bytes and (sum(beside.values()) - sum(beside_after.values())) / own.hbm_bytes
    same_hbm = own.hbm_bytes == theirs.hbm_bytes
    if not same_hbm or abs(after / before - 1) < _BATCH or abs(freed) < _ROOM or (after - before) * freed < 0:
        return ""
    most = max(beside | beside_after, key=lambda name: abs(beside_after.get(name, 0) - beside.get(name, 0)))
    return (
        f"{most[:1].upper()}{most[1:]} of a GPU {'fall' if freed > 0 else 'grow'} from {_gib(beside.get(most, 0))} to "
        f"{_gib(beside_after.get(most, 0))}, and its KV cache {'grows' if kv_after > kv else 'shrinks'} from "
        f"{_gib(kv)} to {_gib(kv_after)}."
    )


def _decoding(evaluation: Evaluation) -> Pool | None:
    return next((p for p in evaluation.pools if p.steps and p.steps[0].phase in ("decode", "mixed")), None)


def _split(pool: Pool) -> tuple[int, dict[str, int]]:
    """Bytes of the KV cache, and of everything else by name."""
    held = {item.name: item.bytes for item in pool.memory}
    return held.pop(KV_CACHE, 0), held


def _unseen(parts: Sequence[PartTime]) -> str:
    """Of what it is that time hides: "of computing, mostly mla decode and experts,"."""
    hidden = sorted((p for p in parts if p.exposed_s < p.seconds), key=lambda p: p.exposed_s - p.seconds)
    kind = "the exchange" if hidden and hidden[0].group == "communication" else "computing"
    return f"of {kind}, mostly {_listed([part.name for part in hidden[:2]])},"


def _behind(parts: Sequence[PartTime]) -> str:
    most = max(parts, key=lambda part: part.seconds - part.exposed_s)
    return "behind computing" if most.group == "communication" else "behind the exchange"


def _changed(name: str, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return f"{name}, which is {'new' if before is None else 'gone'} ({format_time(after or before or 0.0)})"
    return f"{name} ({format_time(before)} -> {format_time(after)})"


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
