"""An engine's recorded flags and what values they take: recorded by `read_flags`, and by hand for TensorRT-LLM."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ...hwmodels.errors import BadInput, nearest


@dataclass(frozen=True, slots=True)
class FlagList:
    """``flags``: main name -> what is recorded of it. ``checked``: read from the engine's own parser, not from its manual."""

    engine: str
    version: str
    wheel: str
    sha256: str
    flags: Mapping[str, Mapping[str, Any]]
    checked: bool

    @property
    def words(self) -> str:
        """As in: vllm 0.33.0 (read from its wheel)."""
        return f"{self.engine} {self.version} ({'read from its wheel' if self.checked else 'unchecked: from its manual'})"

    def main_name(self, name: str) -> str | None:
        """The recorded name of a flag that is written ``name``: itself, of an alias, or of a switch turned off ("--no-…")."""
        plain = name.replace("_", "-") if name.startswith("--") and self.checked else name
        for each in dict.fromkeys((name, plain)):
            if each in self.flags:
                return each
            for main, flag in self.flags.items():
                if each in flag.get("aliases", ()):
                    return main
        if plain.startswith("--no-") and self.is_switch(f"--{plain[5:]}"):
            return f"--{plain[5:]}"
        # Python's parsers take a beginning that is only one flag's: --tp for --tp-size.
        alike = {
            main for main, flag in self.flags.items() for each in (main, *flag.get("aliases", ())) if each.startswith(plain)
        }
        return alike.pop() if len(alike) == 1 and plain.startswith("--") else None

    def is_switch(self, name: str) -> bool:
        """Whether ``name`` takes no value."""
        return bool(self.flags.get(name, {}).get("type") == "bool")

    def check(self, name: str, value: str | None) -> None:
        """Raises BadInput if the engine has no flag ``name`` or if it does not take ``value``."""
        if name not in self.flags:
            close = nearest(name, self.flags)
            raise BadInput(f"{self.words} has no flag {name}: {f'did you mean {close}?' if close else 'take it out'}")
        flag = self.flags[name]
        if self.is_switch(name) != (value is None):
            raise BadInput(f"{name} of {self.words} takes {'no' if value is not None else 'a'} value, got {value or 'none'}")
        choices = flag.get("choices", ())
        if value is not None and choices and value not in choices:
            raise BadInput(f"{name} of {self.words} is one of {', '.join(choices)}, got {value}")
        if value is not None and flag.get("type") in ("int", "float", "Optional[int]", "Optional[float]") and "$" not in value:
            number = float if "float" in flag["type"] else int
            try:
                number(value)
            except ValueError:
                raise BadInput(f"{name} of {self.words} is a number, got {value}") from None


@cache
def flag_list(engine: str) -> FlagList:
    """The recorded flags of ``engine``: vllm, sglang, trtllm or dynamo."""
    record = json.loads((files("epicycle.scenarios.launch") / "flags" / f"{engine}.json").read_text(encoding="utf-8"))
    return FlagList(
        record["engine"], record["version"], record["wheel"], record["sha256"], record["flags"], bool(record["wheel"])
    )


def given_flags(words: Sequence[str], known: FlagList, where: str) -> dict[str, str | None]:
    """Flags of a command line by their recorded names. Raises BadInput for one unknown, twice there, or without value."""
    found: dict[str, str | None] = {}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("-"):
            raise BadInput(f"{where}: wanted a flag, got {name!r}: quote a value that has spaces in it")
        main = known.main_name(name)
        if main is None:
            known.check(name, None)
        assert main is not None
        if main in found:
            raise BadInput(f"{where}: {main} is given twice, keep one")
        if known.is_switch(main):
            found[main] = "false" if name.startswith("--no-") and main != name else None
            continue
        if not equals:
            if not rest:
                raise BadInput(f"{where}: {main} takes a value")
            value = rest.pop(0)
            while rest and not rest[0].startswith("-") and "List" in str(known.flags[main].get("type", "")):
                value += f" {rest.pop(0)}"
        known.check(main, value)
        found[main] = value
    return found
