"""Prompts that join a running worker: how many meet in one step, and on how many of them the fullest attention group works.

Each decode step frees the slots of the requests that it finishes, and as many prompts take them. They arrive at random: a
step's prompts of one attention group are Poisson, or, where its rows hold so many and the rest stays in the queue, binomial.
Groups of one worker step together, so that all wait for the one with most. How an engine deals prompts out says over how many
steps that evens out (`ROUNDS`):

- *round-robin*: a prompt runs in the next step of the group it was dealt to, whoever else has one;
- *wait*: a group holds prompts back until the others have theirs, for so many steps at most (TensorRT-LLM's
  ``attention_dp_config``: ``enable_balance``, ``timeout_iters``);
- *perfect*: every group has the mean at every time, which no scheduler reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ep.normal import largest_of
from ..inputs.serving import Balance
from ..step.part import Num

#: Steps over which a group's prompts are counted together. ``wait``: TensorRT-LLM's default timeout_iters.
ROUNDS: Mapping[Balance, float] = {"round-robin": 1.0, "wait": 50.0, "perfect": np.inf}
#: Means up to which the maximum is summed from the Poisson distribution itself; beyond it a normal one is as good.
_COUNTED = 12.0
#: Prompts of a step that are as good as none.
RARE = 1e-6


@dataclass(frozen=True, slots=True)
class Scheduling:
    """When an engine takes up requests. ``poll_steps``: steps between two looks for new ones (SGLang's
    ``--scheduler-recv-interval``). ``wait_steps``: steps for which prompts wait for others at most, until they fill the share
    ``wait_fill`` of a step's tokens (TensorRT-LLM's ``batch_wait_timeout_iters`` and ``batch_wait_max_tokens_ratio``).
    """

    poll_steps: Num = 1.0
    wait_steps: Num = 0.0
    wait_fill: Num = 1.0

    def steps(self, per_step: Num, room: Num) -> Num:
        """Steps that a request waits on average, where ``per_step`` prompts come and ``room`` fill a step.

        Half of what lies between two looks. Of ``n`` prompts that gather in ``w`` steps the first waits for all of them, the
        others come between: ``w (1 + 1 / n) / 2``.
        """
        gathering = np.minimum(self.wait_steps, self.wait_fill * room / np.maximum(per_step, 1e-12))
        gathered = np.maximum(per_step * gathering, 1.0)
        waited: Num = 0.5 * (np.asarray(self.poll_steps, float) - 1.0) + 0.5 * gathering * (1.0 + 1.0 / gathered)
        return waited


AT_ONCE = Scheduling()


def held_back(per_step: Num, groups: Num, balance: Balance) -> Num:
    """Steps that a prompt waits for the other attention groups' prompts, where ``per_step`` come to each in a step.

    Groups that wait hold prompts until each of them has one, or until their time is over (`ROUNDS`). All of ``n`` groups have
    one after ``(1 + 1/2 + ... + 1/n) / per_step`` steps on average; the first prompt waits for all of that, the others come
    between, as in `Scheduling.steps`.
    """
    rounds = ROUNDS[balance]
    count = np.asarray(groups, float)
    if rounds == 1.0 or np.isinf(rounds):
        return 0.0 * count
    every = np.log(np.maximum(count, 1.0)) + 0.5772 + 0.5 / np.maximum(count, 1.0)  # harmonic numbers
    gathering = np.minimum(rounds, every / np.maximum(per_step, 1e-12))
    gathered = np.maximum(per_step * count * gathering, 1.0)
    return np.asarray(np.where(count > 1.0, 0.5 * gathering * (1.0 + 1.0 / gathered), 0.0))


@dataclass(frozen=True, slots=True)
class Joining:
    """Prompts of one decode step. ``any_``: the share of steps that have some; ``fullest`` and ``mean``: prompts of the group
    with most and of the mean group in such a step."""

    any_: Num
    fullest: Num
    mean: Num


def joining(per_step: Num, groups: Num, balance: Balance, room: Num = np.inf) -> Joining:
    """``per_step`` prompts join each of ``groups`` attention groups in a decode step, on average.

    ``room``: prompts that a group computes in one step at most, the others left for the next; inf: all of them, in as many
    steps as it takes.
    """
    mean, count, most = (np.asarray(x, float) for x in np.broadcast_arrays(np.maximum(per_step, RARE), groups, room))
    rounds = ROUNDS[balance]
    if np.isinf(rounds):
        return Joining(np.minimum(mean, 1.0), np.maximum(mean, 1.0), np.maximum(mean, 1.0))
    # Prompts held back for `rounds` steps are counted together.
    largest = np.maximum(largest_joining(mean * rounds, count, most * rounds) / rounds, mean)
    if rounds == 1.0:
        none = np.where(np.isinf(most), np.exp(-mean), np.maximum(1.0 - mean / np.maximum(most, 1.0), 0.0) ** most)
        some = 1.0 - none**count
    else:
        some = np.minimum(largest, 1.0)
    some = np.maximum(some, 1e-12)
    return Joining(some, largest / some, mean / some)


def largest_joining(mean: Num, count: Num, room: Num = np.inf) -> NDArray[np.float64]:
    """Expected maximum of ``count`` independent numbers of ``mean``: ``sum over k of 1 - F(k)^count``.

    F: binomial of ``room`` trials (Poisson where ``room`` is inf); beyond a mean of a dozen normal. Arguments broadcast.
    """
    m, n, r = np.broadcast_arrays(np.asarray(mean, float), np.asarray(count, float), np.asarray(room, float))
    few = np.minimum(m, _COUNTED)
    chance = np.where(np.isinf(r), 0.0, np.minimum(few / np.maximum(r, 1e-12), 1.0 - 1e-9))
    with np.errstate(invalid="ignore"):
        term = np.where(np.isinf(r), np.exp(-few), np.exp(np.where(np.isinf(r), 0.0, r) * np.log1p(-chance)))
        below = term.copy()
        total = np.zeros(m.shape)
        for k in range(1, 48):
            total = total + np.where(k <= r, 1.0 - np.minimum(below, 1.0) ** n, 0.0)
            odds = np.where(np.isinf(r), few, np.maximum(r - k + 1.0, 0.0) * chance / (1.0 - chance))
            term = term * odds / k
            below = below + term
        spread = np.sqrt(m * np.where(np.isinf(r), 1.0, np.maximum(1.0 - m / np.maximum(r, 1e-12), 0.0)))
    many = np.minimum(m + spread * largest_of(np.maximum(n, 1.0)), np.maximum(r, m))
    return np.asarray(np.where(m <= _COUNTED, np.maximum(total, m), many))
