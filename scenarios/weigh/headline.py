"""What a comparison or an explanation says first: at most thirty words. The whole sentence and the tables say the rest."""

from __future__ import annotations

from collections.abc import Sequence

from ...hwmodels.units import format_time
from ..answer.evaluation import Comparison, Evaluation, Explanation
from ..answer.words.leading_metric import HEADINGS, LEADING
from ..answer.words.number_text import digits, number_text, percent
from ..plan.headline import deployment_words
from .explain import answer_key, bought, strength

MOST = 30
_SHOWN = (*dict.fromkeys((*LEADING[:3], "ttft", *LEADING)), "requests_per_s")
_SAME = 5e-5
_TELLING = 1e-4


def comparison_headline(found: Comparison) -> str:
    """What was changed, and what the numbers that a deployment is chosen by became, as many as thirty words hold."""
    if not found.changes:
        return found.sentence
    asked = [f"{change.path} {change.before} -> {change.after}" for change in found.changes]
    if found.a.name != found.b.name:
        asked = [f"{found.b.name} against {found.a.name}"]
    told = _moved(found.a, found.b) or ["nothing that is answered changes"]
    subject = _fitted("", asked, " and {} more changes", MOST - len(told[0].split()))
    return f"{_fitted(f'{subject}:', told, '', MOST)}."


def explanation_headline(found: Explanation) -> str:
    """What is answered, and what most moves it."""
    answer = found.evaluation
    if not answer.metrics:
        return found.sentence
    what = deployment_words(answer) if answer.serving is not None else _layer(answer)
    key = answer_key(answer, found.sensitivities)
    moving = [s for s in found.sensitivities if strength(s, key) == s.more.get(key) and abs(s.more[key]) > _TELLING]
    if not moving:
        return f"{what}."
    first = moving[0]
    said = HEADINGS.get(key, answer.metric(key).words)
    return f"{what}; {digits(100 * first.step)} % more {first.words} {bought(answer, key, first.more[key])} of {said}."


def _layer(answer: Evaluation) -> str:
    return f"{answer.name}, {answer.metrics[0].words} {format_time(answer.metrics[0].value)}"


def _moved(a: Evaluation, b: Evaluation) -> list[str]:
    """The change of every telling metric that both have, the most telling first."""
    there = {metric.key: metric.value for metric in b.metrics}
    ours = {metric.key: metric for metric in a.metrics}
    found = [f"{a.gpus} -> {b.gpus} GPUs"] if a.gpus != b.gpus else []
    for key in (key for key in _SHOWN if key in ours and key in there):
        before, after = ours[key].value, there[key]
        moved = after / before - 1.0 if before else 0.0
        if abs(moved) < _SAME:
            continue
        unit = ours[key].unit if key not in HEADINGS or ours[key].unit == "s" else ""
        values = f"{number_text(before, unit, key)} -> {number_text(after, unit, key)}"
        found.append(f"{HEADINGS.get(key, ours[key].words)} {values} ({percent(moved)})")
    return found


def _fitted(before: str, items: Sequence[str], rest: str, most: int) -> str:
    """``before`` and as many of ``items`` as ``most`` words hold, at least one; ``rest`` says how many are left out."""
    said, used = f"{before} {items[0]}".strip(), 1
    for item in items[1:]:
        longer = f"{said}, {item}"
        if len(longer.split()) + (len(rest.split()) if rest and used + 1 < len(items) else 0) > most:
            break
        said, used = longer, used + 1
    return said + (rest.format(len(items) - used) if rest and used < len(items) else "")
