"""What stands beside the rows: headlines that do not hold, rows that are tests, rows to come, and what is out of scope."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ...hwmodels.errors import BadInput
from ...hwmodels.strict_yaml import parse_document, read_text


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Headline(_Record):
    """What is said, what does not hold of it, and the scenario that shows it."""

    says: str
    holds_not: str
    scenario: str


class Tested(_Record):
    """A row that is a test and no scenario, and where it is."""

    system: str
    where: str


class NotYet(_Record):
    """A row that is missing, and what it lacks."""

    system: str
    why: str


class OutOfScope(_Record):
    """What nobody should expect here, and why."""

    what: str
    why: str


class Lists(_Record):
    """All of them."""

    headlines: tuple[Headline, ...]
    tests: tuple[Tested, ...]
    not_yet: tuple[NotYet, ...]
    out_of_scope: tuple[OutOfScope, ...]


def load_lists() -> Lists:
    """The shipped lists."""
    path = Path(str(files("epicycle.scenarios.published") / "lists.yaml"))
    return Lists.model_validate(parse_document(read_text(path, BadInput), str(path), BadInput).data)
