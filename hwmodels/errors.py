"""What is said when an input is wrong: one line with what was wanted, what came, and the lever."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import ValidationError


class BadInput(ValueError):  # noqa: N818 - the word the user needs is input, not error
    """An input that names a place and says what would do there."""


class Uncalibrated(BadInput):
    """Neither the system nor its relatives ever measured the kernel asked for."""


class UnknownName(BadInput):
    """No catalogue entry of that name. ``nearest`` is the closest one, or None."""

    def __init__(self, kind: str, name: str, known: Iterable[str], how_to_list: str) -> None:
        self.nearest = nearest(name, known)
        hint = f"did you mean {self.nearest!r}? " if self.nearest else ""
        super().__init__(f"unknown {kind} {name!r}: {hint}List them with `{how_to_list}`")


class UnknownKey(BadInput):
    """No field of that name. ``nearest`` is the closest one, or None."""

    def __init__(self, where: str, key: str, known: Iterable[str]) -> None:
        known = sorted(known)
        self.nearest = nearest(key, known)
        hint = f"did you mean {self.nearest!r}?" if self.nearest else f"there are {', '.join(known)}"
        super().__init__(f"{where} has no key {key!r}: {hint}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to ``name``, if any is close; a known name that contains it counts as close."""
    lowered = {k.lower().replace("_", "-"): k for k in known}
    wanted = name.lower().replace("_", "-")
    close = difflib.get_close_matches(wanted, lowered, n=1, cutoff=0.6)
    close = close or sorted(k for k in lowered if wanted and (wanted in k or k in wanted))
    return lowered[close[0]] if close else None


def one_line(error: ValidationError, where: str = "") -> str:
    """A pydantic error as "where.key: what is wrong; …", without its class names and links."""
    parts = []
    for detail in error.errors(include_url=False):
        key = ".".join(str(part) for part in (*((where,) if where else ()), *detail["loc"]))
        message = detail["msg"].removeprefix("Value error, ")
        got = "" if detail["type"] == "value_error" else f", got {_shortened(detail['input'])}"
        if detail["type"] == "missing":
            got = ""
        elif detail["type"] == "extra_forbidden":
            message, got = "no such key", ""
        parts.append(f"{key}: {message}{got}" if key else f"{message}{got}")
    return "; ".join(parts)


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
