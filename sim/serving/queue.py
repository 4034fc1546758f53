"""How long work waits for a free server."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..step.part import Num


@dataclass(frozen=True, slots=True)
class ArrivalLaw:
    """How evenly requests come. ``variation``: variance of the times between them over their mean squared (0: evenly spaced,
    1: at random, as Poisson; above: in bursts of about as many).
    """

    variation: float = 1.0


EVENLY, AT_RANDOM = ArrivalLaw(0.0), ArrivalLaw(1.0)


@dataclass(frozen=True, slots=True)
class Burst:
    """A closed loop whose clients all send at once in the beginning. ``rounds``: requests of each (inf: the beginning is long
    past); ``spread``: width of the lengths over the longest one, which is all that parts the clients later.
    """

    rounds: float = float("inf")
    spread: float = 0.0

    def first_wait(self, prompt_s: Num, before: Num) -> Num:
        """Seconds that the first of each client's requests waits for half of the ``before`` others' prompts, of all its."""
        return 0.5 * before * prompt_s / self.rounds

    def busy(self, utilisation: Num) -> Num:
        """Share of its time that a pool is busy while requests come, where it is so for ``utilisation`` of all time.

        The first ones take that share of a cycle to be computed and are that far apart; each further generation parts them by
        another uniform draw of the lengths: after ``k`` the requests of a cycle come within a part of it of about
        ``sqrt(utilisation^2 + k spread^2)``. The mean over generations.
        """
        if not np.isfinite(self.rounds):
            return utilisation
        rho = np.asarray(utilisation, float)
        later = np.arange(1.0, max(2.0, self.rounds)).reshape(-1, *(1 for _ in rho.shape))
        within = np.clip(np.sqrt(rho**2 + later * self.spread**2), 1e-9, 1.0)
        return np.asarray(np.mean(np.minimum(rho / within, np.maximum(rho, _PACED)), axis=0))


#: A pool that paces its own arrivals is not waited for without end: beyond this share the closed loop thins them out.
_PACED = 0.9
STEADY = Burst()


def queue_wait(service_s: Num, servers: Num, utilisation: Num, arrivals: ArrivalLaw = AT_RANDOM) -> Num:
    """Mean wait of arrivals for one of ``servers`` servers of constant service time: seconds, infinite when full.

    Half of Sakasegawa's approximation for M/M/c (Annals of the Institute of Statistical Mathematics 29, 1977):
    ``S rho^(sqrt(2 (c + 1)) - 1) / (c (1 - rho))``, exact for M/D/1; times the variation of the arrivals, to which that of the
    services, none, is added (Allen and Cunneen's approximation for G/G/c).
    """
    rho = np.asarray(utilisation, float)
    exponent = np.sqrt(2.0 * (np.asarray(servers, float) + 1.0)) - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        wait = 0.5 * arrivals.variation * service_s * rho**exponent / (servers * (1.0 - rho))
    return np.where(rho < 1.0, wait, np.inf)


def boarding_wait(step_s: Num, arrivals_per_s: Num, workers: Num, arrivals: ArrivalLaw = AT_RANDOM) -> Num:
    """Mean wait for a step of ``step_s`` under way to end, where all groups of a worker step together: a prompt that comes
    meanwhile boards the next step, on whichever group. It takes a free one of ``workers`` workers if there is one.

    A step begins as soon as somebody waits, so steps follow each other as long as one arrives during each: at random, with
    ``a = rate x step`` arrivals in one, a worker steps the share ``a e^a / (1 + a e^a)`` of the time, and half a step is left
    on average. Evenly spaced requests meet no step while they come farther apart than it takes; beyond that their mean wait is
    half a step less half their distance (exact where a step is a whole number of distances, else a little more). Bursts are as
    many fewer arrivals at once.
    """
    load = np.asarray(arrivals_per_s * step_s / workers, float)
    if arrivals.variation == 0.0:
        with np.errstate(divide="ignore"):
            return np.asarray(0.5 * step_s * np.maximum(0.0, 1.0 - 1.0 / np.maximum(load, 1e-300)))
    clusters = np.minimum(load / max(arrivals.variation, 1.0), 50.0)
    stepping = clusters * np.exp(clusters)
    return np.asarray(0.5 * step_s * (stepping / (1.0 + stepping)) ** workers)
