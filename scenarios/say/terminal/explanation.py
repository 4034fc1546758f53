"""An explanation on a terminal: what the steps are made of, and what more or less of each hardware number does."""

from __future__ import annotations

from rich.console import Console

from ...answer.evaluation import Explanation, Sensitivity
from ...weigh.explain import answer_key, bought, strength
from ...weigh.headline import explanation_headline
from .console import say
from .evaluation import new_table, print_evaluation, print_sentence, print_table

_TELLING = 1e-4


def print_explanation(explanation: Explanation, console: Console) -> None:
    """Print ``explanation``."""
    print_sentence(explanation_headline(explanation), console)
    say(explanation.sentence, console)
    print_evaluation(explanation.evaluation, console)
    key = answer_key(explanation.evaluation, explanation.sensitivities)
    moving = [s for s in explanation.sensitivities if abs(strength(s, key)) > _TELLING]
    if moving:
        _print_sensitivities(explanation, moving, key, console)
    still = [s.words for s in explanation.sensitivities if s not in moving]
    if still:
        say(f"changes nothing: {', '.join(still)}", console, "dim")


def _print_sensitivities(explanation: Explanation, moving: list[Sensitivity], key: str, console: Console) -> None:
    answer = explanation.evaluation
    step = f"{100 * moving[0].step:g} %"
    title = f"what hardware would do for {answer.metric(key).words}"
    table = new_table("number", "is", f"{step} more", f"{step} less", "key")
    for s in moving:
        more, less = (bought(answer, key, effect[key]) if key in effect else "no answer" for effect in (s.more, s.less))
        table.add_row(s.words, s.value, more, less, s.path)
    print_table(title, table, console)
