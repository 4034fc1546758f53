"""Arrays that count what is done to them, so that a test can say how much work a formula is without reading a clock.

A `Counted` array and everything computed from it reports each pass over its elements to a `Work`. Library code may turn
arrays into plain ones with ``np.asarray``; inside `counting` that call keeps them counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

#: Each of these takes ten to twenty times as long per element as a product.
DEAR = frozenset({"power", "float_power", "exp", "expm1", "log", "log1p", "log2", "exp2", "sin", "cos", "tanh", "hypot"})
#: numpy functions that pass over elements without calling a ufunc.
PASSES = frozenset({"where", "concatenate", "take", "unique", "sort", "argsort", "searchsorted", "bincount", "interp"})


class Work:
    """Calls of numpy and the elements that they passed over, by name."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.elements: Counter[str] = Counter()

    def add(self, name: str, elements: int) -> None:
        self.calls[name] += 1
        self.elements[name] += elements

    def passes(self, points: int) -> float:
        """Passes over a table of ``points`` rows: elements visited, by the row."""
        return sum(self.elements.values()) / points

    def dear(self, points: int) -> float:
        """Powers, exponentials and logarithms by the row."""
        return sum(count for name, count in self.elements.items() if name in DEAR) / points


class Counted(np.ndarray):
    """An array whose passes are reported to its ``work``; what is computed from it is one, too."""

    work: Work

    def __new__(cls, values: Any, work: Work) -> Counted:
        array = np.array(values).view(cls)
        array.work = work
        return array

    def __array_finalize__(self, parent: Any) -> None:
        self.work = getattr(parent, "work", None) or Work()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = tuple(_plain(x) for x in inputs)
        options = {name: tuple(map(_plain, x)) if name == "out" else _plain(x) for name, x in options.items()}
        result = getattr(ufunc, method)(*plain, **options)
        visited = (*plain, *(result if isinstance(result, tuple) else (result,)))
        self.work.add(ufunc.__name__, max(np.size(x) for x in visited))
        return self._counted(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.broadcast_arrays:
            kwargs = {**kwargs, "subok": True}
        result = super().__array_function__(function, types, args, kwargs)
        if function.__name__ in PASSES:
            self.work.add(function.__name__, max(np.size(x) for x in (result if isinstance(result, tuple) else (result,))))
        return self._counted(result)

    def _counted(self, result: Any) -> Any:
        if isinstance(result, (tuple, list)):
            return type(result)(self._counted(x) for x in result)
        if isinstance(result, np.ndarray) and result.dtype != object:
            counted = result.view(Counted)
            counted.work = self.work
            return counted
        return result


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Counted) else value


@contextmanager
def counting() -> Iterator[Work]:
    """A `Work` for the arrays of a block; ``np.asarray`` keeps them counted in it."""
    with mock.patch.object(np, "asarray", np.asanyarray):
        yield Work()
