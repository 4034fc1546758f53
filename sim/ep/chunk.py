"""How many rows a sender of a ring hands over at once: many, and the last ones come late; few, and it shakes hands often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.laws.blocks import in_blocks
from .shape import Num

#: Rounds after which the search for the best chunk size has settled (`Chunk.best`).
_STEPS = 2
_NOTHING_S = 1e-30
_HIDDEN = 80.0  # a sender this far (as a logarithm) behind the other loads pays for no handshake


@dataclass(frozen=True, slots=True)
class Chunk:
    """The chunk size at which a ring's handshakes and what its first and last chunk cost are least together."""

    rows: Num
    handshakes_s: Num
    drain_s: Num

    @classmethod
    def best(
        cls,
        sizes: range,
        ring_rows: Num,
        handshake_s: float,
        row_drain_s: Num,
        send_s: Num,
        beside_s: tuple[Num, ...],
        sharpness: float,
    ) -> Chunk:
        """The best of ``sizes`` for ``ring_rows`` rows of a ring, whose sender takes ``send_s`` beside the loads ``beside_s``.

        A chunk of c rows costs ``g(send + h n / c) + c d``: g the smooth maximum with the other loads, h a handshake, n rows,
        d a row's drain. That is convex, and least where ``c^2 = g' h n / d`` with ``g' = (1 + (beside / sender)^q)^(1/q - 1)``:
        Newton's steps in log c find it, in single precision, and the better of the two sizes around it is taken.
        """
        find = partial(_best_size, sizes, handshake_s, sharpness)
        rows = np.clip(ring_rows, 1.0, in_blocks(find, ring_rows, row_drain_s, send_s, *beside_s))
        return cls(rows, np.maximum(ring_rows / rows, 1.0) * handshake_s, rows * row_drain_s)


def _best_size(
    sizes: range, handshake_s: float, q: float, ring_rows: Num, row_drain_s: Num, send_s: Num, *beside_s: Num
) -> NDArray[np.float64]:
    smallest, largest, step = float(sizes[0]), float(sizes[-1]), float(sizes.step)
    sent, waits, drain, *others = (
        np.maximum(np.asarray(x, np.float32), _NOTHING_S) for x in (send_s, ring_rows * handshake_s, row_drain_s, *beside_s)
    )
    logs = [np.log(x) for x in others]
    top = reduce(np.maximum, logs)
    log_beside = top + np.log(reduce(np.add, [np.exp(q * (x - top)) for x in logs])) / q
    alone = np.log(waits / drain)  # twice log c where nothing else hides a handshake
    low, high = math.log(smallest), math.log(largest)
    # From where the sender would just catch up with the other loads, if it is below that.
    level = np.log(waits / np.maximum(np.exp(log_beside) - sent, _NOTHING_S))
    log_rows = np.clip(np.minimum(0.5 * alone, level), low, high)
    for _ in range(_STEPS):
        waited = waits * np.exp(-log_rows)
        sender = sent + waited
        hidden = np.exp(np.minimum(q * (log_beside - np.log(sender)), _HIDDEN))
        slope = 2.0 + (q - 1.0) * hidden / (1.0 + hidden) * waited / sender
        log_rows = np.clip(log_rows - (2.0 * log_rows - alone + (1.0 - 1.0 / q) * np.log(1.0 + hidden)) / slope, low, high)
    below = np.clip(np.floor(np.exp(log_rows) / step + 1e-5) * step, smallest, largest)
    whole_s: list[NDArray[np.float32]] = []
    for size in (below, np.minimum(below + step, largest)):
        rows = np.clip(np.asarray(ring_rows, np.float32), 1.0, size)
        log_sender = np.log(sent + np.maximum(waits / rows, handshake_s))
        apart = np.log(1.0 + np.exp(-q * np.abs(log_beside - log_sender))) / q
        whole_s.append(np.exp(np.maximum(log_beside, log_sender) + apart) + rows * drain)
    size = np.minimum(below + step * (whole_s[1] < whole_s[0]), largest)
    return np.asarray(size, float)


def share(sharpness: float, load_s: Num, *others_s: Num) -> NDArray[np.float64]:
    """How much of a smooth maximum is ``load_s``: ``load^q / sum of all^q``, 1 where it binds and 0 where it hides."""
    return in_blocks(partial(_share, sharpness), load_s, *others_s)


def _share(q: float, load_s: Num, *others_s: Num) -> NDArray[np.float64]:
    load, *others = (np.log(np.maximum(x, _NOTHING_S)) for x in (load_s, *others_s))
    return np.asarray(1.0 / (1.0 + reduce(np.add, [np.exp(np.minimum(q * (x - load), _HIDDEN)) for x in others])))
