"""`epicycle exchanges`: one layer under every exchange that can carry it."""

from __future__ import annotations

from pathlib import Path

from ...hwmodels.errors import BadInput
from ..answer.exchange_choice import Exchanges
from ..api import questions
from ..api.told import Told
from .handing import Step, answered


def exchanges(
    scenario: str, sets: list[str], tokens: str | None, json: Path | None, csv: Path | None, html: Path | None
) -> None:
    """Print which exchange is fastest by tokens a rank. Raises BadInput."""
    try:
        asked = None if tokens is None else [int(each) for each in tokens.split(",")]
    except ValueError:
        raise BadInput(f"--tokens: wanted whole numbers such as 1,64,4096, got {tokens!r}") from None

    def found(step: Step) -> Told[Exchanges]:
        return questions.exchanges(scenario, sets=sets, tokens=asked, progress=step)

    words, said = f"weighing exchanges of {scenario}", None if tokens is None else [tokens]
    answered(found, words, "exchanges", [scenario], json=json, csv=csv, html=html, set=sets, tokens=said)
