"""Which part of a step made the difference between two evaluations, and what bounds it, in a plain sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...hwmodels.units import format_time
from ..answer.evaluation import Evaluation, PartTime, StepTime
from ..answer.words.glossary import bound_words
from ..answer.words.number_text import digits, percent, share
from .hiding import hiding, room

_PHASES: Mapping[str, str] = {"decode": "decode step", "mixed": "mixed step", "layer": "layer", "prefill": "prefill step"}
_MOST = 0.8  # parts are named until they make this share of the difference
_NAMED = 3
_AGAINST = 0.25  # parts that move the other way by this share of the difference are told beside it
_BESIDE, _NOTABLE = 0.1, 0.01  # a step is told of if it moves by this share of the one that moves most, or by this itself
_SAME = 5e-4  # a relative change of time below it prints as none


@dataclass(frozen=True, slots=True)
class PartChange:
    """One part of a step in two evaluations, seconds of the step's time; 0.0 and no bound where a side does not have it."""

    name: str
    group: str
    before_s: float
    after_s: float
    bound_before: str
    bound_after: str

    @property
    def moved_s(self) -> float:
        return self.after_s - self.before_s


@dataclass(frozen=True, slots=True)
class StepChange:
    """The same phase of two evaluations, its parts in order."""

    phase: str
    before: StepTime
    after: StepTime
    parts: tuple[PartChange, ...]

    @property
    def moved_s(self) -> float:
        return self.after.seconds - self.before.seconds

    @property
    def relative(self) -> float:
        return self.moved_s / self.before.seconds if self.before.seconds else 0.0


def step_changes(a: Evaluation, b: Evaluation) -> tuple[StepChange, ...]:
    """Every phase that both have. A step that only decodes stands for one that decodes beside prompts, and the reverse."""
    before, after = _steps(a), _steps(b)
    pairs = [(phase, before[phase], after[phase]) for phase in before if phase in after]
    if not any(phase in ("decode", "mixed") for phase, _, _ in pairs):
        own = next((before[phase] for phase in ("decode", "mixed") if phase in before), None)
        other = next((after[phase] for phase in ("decode", "mixed") if phase in after), None)
        if own is not None and other is not None:
            pairs.insert(0, ("decode", own, other))
    return tuple(StepChange(phase, own, other, _parts(own.parts, other.parts)) for phase, own, other in pairs)


def mechanism(a: Evaluation, b: Evaluation) -> str:
    """The sentence: which step moved, which of its parts made most of that, and what bounds them."""
    changes = step_changes(a, b)
    if not changes:
        return "The two have no step in common: one only computes prompts, the other only decodes."
    moved = [change for change in changes if abs(change.relative) >= _SAME]
    if not moved:
        steps = " and ".join(_PHASES[change.phase] for change in changes)
        return f"No {steps} takes any longer or shorter: the difference is in how many there are, or in prices."
    # Decoding first, unless it hardly moved beside the others.
    most = max(abs(change.relative) for change in moved)
    moved = [change for change in moved if abs(change.relative) >= min(_BESIDE * most, _NOTABLE)]
    order = sorted(moved, key=lambda change: (abs(change.relative) < 0.2 * most, list(_PHASES).index(change.phase)))
    return " ".join(filter(None, [*(_step_sentence(change) for change in order[:2]), room(a, b)]))


def _steps(evaluation: Evaluation) -> dict[str, StepTime]:
    found: dict[str, StepTime] = {}
    for pool in evaluation.pools:
        for step in pool.steps:
            found.setdefault(step.phase, step)
    return found


def _parts(before: Sequence[PartTime], after: Sequence[PartTime]) -> tuple[PartChange, ...]:
    ours, theirs = _by_name(before), _by_name(after)
    names = [*ours, *(name for name in theirs if name not in ours)]
    return tuple(
        PartChange(
            name,
            (ours.get(name) or theirs[name]).group,
            ours[name].exposed_s if name in ours else 0.0,
            theirs[name].exposed_s if name in theirs else 0.0,
            ours[name].bound if name in ours else "",
            theirs[name].bound if name in theirs else "",
        )
        for name in names
    )


def _by_name(parts: Sequence[PartTime]) -> dict[str, PartTime]:
    return {part.name: part for part in parts}


def _step_sentence(change: StepChange) -> str:
    before, after = change.before, change.after
    told = (
        f"{_PHASES[change.phase].capitalize()} {format_time(before.seconds)} -> {format_time(after.seconds)} "
        f"({percent(change.relative)}){_batches(before, after)}"
    )
    if change.phase != "layer" and (hides := hiding(before, after)):  # a layer's ops hide on the ranks that do not wait
        return f"{told}: {hides}."
    with_it = sorted((p for p in change.parts if p.moved_s * change.moved_s > 0), key=lambda p: -abs(p.moved_s))
    against = sorted((p for p in change.parts if p.moved_s * change.moved_s < 0), key=lambda p: -abs(p.moved_s))
    if not with_it:
        return f"{told}."
    whole = sum(abs(part.moved_s) for part in with_it)
    named: list[PartChange] = []
    for part in with_it[:_NAMED]:
        named.append(part)
        if sum(abs(p.moved_s) for p in named) >= _MOST * whole:
            break
    lost_again = sum(abs(part.moved_s) for part in against)
    if lost_again > _AGAINST * whole:
        return f"{told}: {_both_ways(named, against[:_NAMED], whole, lost_again, change.moved_s < 0)}."
    made = sum(abs(part.moved_s) for part in named) / whole
    noun = "gain" if change.moved_s < 0 else "loss"
    sentence = f"{told}: {share(made)} of the {noun} is {_listed(named)}"
    if against and abs(against[0].moved_s) > 0.1 * whole:
        sentence += f". Against it, {_part_words(against[0])}"
    return sentence + "."


def _both_ways(with_it: Sequence[PartChange], against: Sequence[PartChange], made: float, lost: float, gain: bool) -> str:
    """A difference that is the rest of two larger ones."""
    (won, won_s), (paid, paid_s) = ((with_it, made), (against, lost)) if gain else ((against, lost), (with_it, made))
    gains = f"it gains {format_time(won_s)}, mostly in {_listed(won)}"
    return f"{gains}, and pays {format_time(paid_s)}, mostly in {_listed(paid)}"


def _listed(parts: Sequence[PartChange]) -> str:
    words = [_part_words(part) for part in parts]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _part_words(part: PartChange) -> str:
    if not part.bound_before or not part.bound_after:
        state = "is new" if not part.bound_before else "is gone"
        return f"{part.name}, which {state} ({format_time(part.after_s or part.before_s)})"
    bound = f"bound by {bound_words(part.bound_after)}"
    if part.bound_before != part.bound_after:
        bound = f"bound by {bound_words(part.bound_before)} before, by {bound_words(part.bound_after)} after"
    return f"{part.name} ({format_time(part.before_s)} -> {format_time(part.after_s)}, {bound})"


def _batches(before: StepTime, after: StepTime) -> str:
    if not before.tokens_per_gpu or abs(after.tokens_per_gpu / before.tokens_per_gpu - 1) < 5e-3:
        return ""
    return f" with {digits(before.tokens_per_gpu)} -> {digits(after.tokens_per_gpu)} tokens per GPU"
