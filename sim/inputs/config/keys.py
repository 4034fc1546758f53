"""The keys of one config object: each is asked for by its type, and remembered as used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ....hwmodels.errors import BadInput
from .document import clipped, shown

#: Largest count or width that a key may say; more is no model.
MOST = 1 << 24


class Keys:
    """One object of a config file. Several names given to a question are spellings of one key; those present must agree.

    ``where``: the file (and the object inside it) as error lines name it. A key whose value is null counts as absent.
    """

    def __init__(self, table: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._table = dict(table)
        self._used: set[str] = set()

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raises BadInput naming file and key."""
        raise BadInput(f"{self.where}: {clipped(key)}: {why}")

    def has(self, *names: str) -> bool:
        """Whether one of the spellings is there and not null. Asks for nothing."""
        return any(self._table.get(name) is not None for name in names)

    def given(self, name: str) -> bool:
        """Whether the key is written, be it null."""
        return name in self._table

    def raw(self, *names: str) -> Any:
        """The value of whichever spelling is there, of any type; None if absent. Raises BadInput where two disagree."""
        found = [(name, self._table[name]) for name in names if name in self._table]
        self._used.update(name for name, _ in found)
        said = [(name, value) for name, value in found if value is not None]
        for name, value in said[1:]:
            if type(value) is not type(said[0][1]) or value != said[0][1]:
                self.refuse(name, f"{shown(value)} disagrees with {said[0][0]}, {shown(said[0][1])}: keep one of them")
        return said[0][1] if said else None

    def count(self, *names: str, default: int | None = None, low: int = 1, high: int = MOST) -> int:
        """A whole number from ``low`` to ``high``. Raises BadInput for another type or size, or if absent without default."""
        value = self.raw(*names)
        if value is None:
            return self._missing(names, default, f"a whole number from {low}")
        return self.checked(self._spelt(names), value, low, high)

    def optional(self, *names: str, low: int = 1, high: int = MOST) -> int | None:
        """`count`, or None if absent."""
        value = self.raw(*names)
        return None if value is None else self.checked(self._spelt(names), value, low, high)

    def level(self, *names: str, default: int | None = None, low: int = 1, layers: int | None = None) -> int:
        """`count`, or a list that says the same number for every layer. Raises BadInput where layers differ."""
        value = self.raw(*names)
        if not isinstance(value, list):
            return self.count(*names, default=default, low=low)
        name = self._spelt(names)
        if layers is not None and len(value) < layers:
            self.refuse(name, f"lists {len(value)} layers, the model has {layers}")
        each = {self.checked(name, item, low, MOST) for item in value[:layers]}
        if len(each) != 1:
            self.refuse(name, f"differs by layer ({clipped(', '.join(map(str, sorted(each))), 40)}): only one width is read")
        return each.pop()

    def flag(self, *names: str, default: bool = False) -> bool:
        """true or false. Raises BadInput for anything else."""
        value = self.raw(*names)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(self._spelt(names), f"wanted true or false, got {shown(value)}")
        return value

    def word(self, *names: str, default: str | None = None) -> str | None:
        """A string. Raises BadInput for anything else."""
        value = self.raw(*names)
        if value is not None and not isinstance(value, str):
            self.refuse(self._spelt(names), f"wanted a string, got {shown(value)}")
        return default if value is None else value

    def words(self, *names: str) -> list[str] | None:
        """A list of strings, or None if absent."""
        value = self.raw(*names)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.refuse(self._spelt(names), f"wanted a list of strings, got {shown(value)}")
        return list(value)

    def counts(self, *names: str, low: int = 0) -> list[int] | None:
        """A list of whole numbers, or None if absent."""
        value = self.raw(*names)
        if value is None:
            return None
        if not isinstance(value, list):
            self.refuse(self._spelt(names), f"wanted a list of whole numbers, got {shown(value)}")
        return [self.checked(self._spelt(names), item, low, MOST) for item in value]

    def table(self, *names: str) -> Keys | None:
        """An object inside this one, or None if absent."""
        value = self.raw(*names)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.refuse(self._spelt(names), f"wanted an object, got {shown(value)}")
        return Keys(value, f"{self.where}: {self._spelt(names)}")

    def ignore(self, *names: str) -> None:
        """Mark keys as understood and without effect on cost."""
        self._used.update(names)

    def left(self) -> dict[str, Any]:
        """Keys that nobody asked for, with their values; those whose value is null left out."""
        return {key: value for key, value in self._table.items() if key not in self._used and value is not None}

    def checked(self, name: str, value: object, low: int, high: int) -> int:
        """``value`` as a whole number within bounds. Raises BadInput naming ``name``."""
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(name, f"wanted a whole number, got {shown(value)}")
        if not low <= value <= high:
            self.refuse(name, f"wanted a whole number from {low:,} to {high:,}, got {shown(value)}")
        return value

    def _spelt(self, names: Sequence[str]) -> str:
        return next((name for name in names if self._table.get(name) is not None), names[0])

    def _missing(self, names: Sequence[str], default: int | None, wanted: str) -> int:
        if default is not None:
            return default
        written = next((name for name in names if name in self._table), None)
        if written is not None:
            self.refuse(written, f"wanted {wanted}, got null")
        self.refuse(names[0], f"wanted {wanted}, the file has none" + (f" (nor {', '.join(names[1:3])})" if names[1:] else ""))
