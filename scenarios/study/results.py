"""What a store holds, as answers again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from ...hwmodels.errors import BadInput
from ..answer.evaluation import Sweep, SweepPoint
from .point import read
from .store import Store
from .summary import Summary


class KeptPoints(Sequence[SweepPoint]):
    """Points in a store by their keys, each read when it is looked at. Raises BadInput where one is not as it was written."""

    def __init__(self, store: Store, keys: Sequence[str]) -> None:
        self._store, self._keys = store, keys

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, place: int) -> SweepPoint: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[SweepPoint, ...]: ...
    def __getitem__(self, place: int | slice) -> SweepPoint | tuple[SweepPoint, ...]:
        if isinstance(place, slice):
            return tuple(self._point(key) for key in self._keys[place])
        return self._point(self._keys[place])

    def __iter__(self) -> Iterator[SweepPoint]:
        return (self._point(key) for key in self._keys)

    def _point(self, key: str) -> SweepPoint:
        texts = self._store.get(key)
        if texts is None:
            raise BadInput(f"{self._store.path}: a point of this study is gone or damaged: the study's command answers it anew")
        return read(*texts)


def kept_sweep(store: Store, number: int) -> Sweep:
    """Study ``number`` of ``store``, as far as it is answered. Raises BadInput if there is no such study, or no answer."""
    study = store.study(number)
    keys = [key for key, _ in store.members(number)]
    there = [key for key in keys if store.get(key) is not None]
    summary = Summary.of(study.axes, KeptPoints(store, there))
    if summary.first is None:
        raise BadInput(
            f"{store.path}: study {number} has no point with an answer: its command was {study.command or 'not kept'}"
        )
    before = f"{len(there)} of {len(keys)} points are answered. " if len(there) < len(keys) else ""
    return summary.sweep(KeptPoints(store, there), before)
