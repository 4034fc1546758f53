"""Parts of a page of which one is shown: a switch of buttons above them, or the points of a figure, choose it."""

from __future__ import annotations

from collections.abc import Sequence

from .page import Html, safe


def panels(parts: Sequence[tuple[str, str]], each_in_print: bool = False) -> Html:
    """``parts`` (id, HTML) of which the first is shown; ``each_in_print``: paper shows them all."""
    boxes = "".join(f'<div id="{safe(name)}"{" hidden" if i else ""}>{body}</div>' for i, (name, body) in enumerate(parts))
    kind = '"panels each"' if each_in_print else "panels"
    return Html(f"<div class={kind} aria-live=polite>{boxes}</div>")


def switch(says: str, choices: Sequence[tuple[str, str]]) -> Html:
    """Buttons (panel id, words), the first pressed; none for a single choice. ``says``: what is chosen, for screen readers."""
    if len(choices) < 2:
        return Html("")
    buttons = "".join(_button(name, words, not i, "") for i, (name, words) in enumerate(choices))
    return Html(f'<div class=zoom role=group aria-label="{safe(says)}">{buttons}</div>')


def chooser(panel: str, words: object, pressed: bool = False) -> Html:
    """A button that looks like a link and shows ``panel``."""
    return _button(panel, words, pressed, " class=link")


def copied(name: str, text: str, words: str = "copy") -> Html:
    """``text`` as it is to be pasted, with a button that copies it."""
    button = f'<button type=button class=copy data-copy="{safe(name)}">{safe(words)}</button>'
    return Html(f'<div class=copied><pre id="{safe(name)}">{safe(text)}</pre>{button}</div>')


def _button(panel: str, words: object, pressed: bool, look: str) -> Html:
    state = "true" if pressed else "false"
    return Html(f'<button type=button{look} data-show="{safe(panel)}" aria-pressed={state}>{safe(words)}</button>')
