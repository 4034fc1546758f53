"""The top of a page: what was asked, the answer in one sentence, the headline numbers, and what to keep in mind."""

from __future__ import annotations

from collections.abc import Iterable

from .page import Html, safe


def opening(name: object, description: object, sentence: object, facts: Html, notes: Iterable[object] = ()) -> Html:
    """The page's header; ``description`` may be empty."""
    described = f"<p>{safe(description)}</p>" if description else ""
    answer = str(sentence).replace(" -> ", " → ")  # an arrow of two signs breaks at a line's end
    said = "".join(f"<p class=note>{safe(n)}</p>" for n in notes)
    return Html(f"<header id=answer><h1>{safe(name)}</h1>{described}<p class=answer>{safe(answer)}</p>{facts}{said}</header>")
