"""A table's times as they are shown and held against limits: the medians about the closed form's, and what is kept for sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.backends import load_backend
from ...sim.inputs.serving_question import ServingQuestion
from ..answer.operating_point import worst_share
from ..answer.sureness import Time, sure_times
from ..answer.sureness import Workers as Certainty
from .pools import Rows
from .widths import Floats
from .workers import Workers


@dataclass(frozen=True, slots=True)
class Certain:
    """[row] ``shown_s``: medians; ``slower``: the median of TPOT over the closed form's; ``share``: the worst of got / wanted,
    at the confidence asked for."""

    shown_s: Mapping[Time, Floats]
    slower: Floats
    share: Floats


def certain(
    question: ServingQuestion,
    workers: Workers,
    rows: Rows,
    widest: Floats,
    predicted_s: Mapping[Time, Floats],
    alone: NDArray[np.bool_],
) -> Certain:
    """``predicted_s`` of deployments whose decoding workers are ``rows`` of ``workers``, their widest exchange ``widest``.

    ``alone``: [row] whether they compute prompts, too, so that both times are theirs.
    """
    shown: dict[Time, Floats] = {key: np.array(seconds) for key, seconds in predicted_s.items()}
    slower, share = np.ones(len(rows)), np.zeros(len(rows))
    kind = workers.kind[rows]
    for number, one in enumerate(workers.kinds):
        mine = np.flatnonzero(kind == number)
        if not len(mine):
            continue
        at = rows[mine]
        size = Certainty(workers.gpus[at], widest[mine], one.protocol)
        times = {key: seconds[mine] for key, seconds in predicted_s.items()}
        found = sure_times(question, load_backend(one.backend), size, workers.batch[at], times)
        for key, sure in found.items():
            shown[key][mine] = sure.shown_s
        slower[mine] = found["tpot"].residuals.median
        parts = {key: worst_share(question, {key: sure}) for key, sure in found.items()}
        held = workers.limited[at] > 0.0
        for key in parts:
            # What a worker is held at by a limit meets it; straight lines between batches would have it a little off.
            own = held if key == "tpot" else held & alone[mine]
            parts[key] = np.where(own, np.minimum(parts[key], 1.0), parts[key])
        share[mine] = np.max(np.stack(list(parts.values())), axis=0)
    return Certain(shown, slower, share)
