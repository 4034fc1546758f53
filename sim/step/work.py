"""What kernels that run one after another cost: seconds, what each resource alone would need, bytes and flops."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from .part import Group, Num, Part


@dataclass(frozen=True, slots=True)
class Work:
    """Kernels of one layer on one GPU. ``tensor``, ``hbm``, ``launch``: seconds that resource alone would need; ``host``: of
    the host, where no graph replays the kernels and a table timed it."""

    seconds: Num = 0.0
    tensor: Num = 0.0
    hbm: Num = 0.0
    launch: Num = 0.0
    flops: Num = 0.0
    hbm_bytes: Num = 0.0
    kernels: Num = 0.0
    host: Num = 0.0

    def __add__(self, other: Work) -> Work:
        """One after the other."""
        return Work(*(getattr(self, name) + getattr(other, name) for name in _NAMES))

    def where(self, runs: Num | np.bool_) -> Work:
        """Exactly nothing wherever ``runs`` is zero or False."""
        return Work(*(np.where(np.asarray(runs) != 0, getattr(self, name), 0.0) for name in _NAMES))

    def cheaper(self, other: Work) -> Work:
        """Wherever it is faster, this work; elsewhere ``other``."""
        first = np.less_equal(self.seconds, other.seconds)
        return Work(*(np.where(first, getattr(self, name), getattr(other, name)) for name in _NAMES))

    def part(self, name: str, group: Group, times: float, source: str) -> Part:
        """The part of a step that runs it ``times`` times."""
        loads = {"tensor": plain(self.tensor), "hbm": plain(self.hbm), "launch": plain(self.launch)}
        return Part(
            name, group, plain(self.seconds), times, loads,
            flops=plain(self.flops), hbm_bytes=plain(self.hbm_bytes), kernels=plain(self.kernels), host_s=plain(self.host),
            source=source,
        )  # fmt: skip


#: A table of plans asks for them tens of thousands of times.
_NAMES = tuple(field.name for field in fields(Work))


def plain(value: Num) -> Num:
    """A float instead of an array without dimensions."""
    return float(value) if np.ndim(value) == 0 else value
