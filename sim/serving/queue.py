"""How long work waits for a free server."""

from __future__ import annotations

import numpy as np

from ..step.part import Num


def queue_wait(service_s: Num, servers: Num, utilisation: Num) -> Num:
    """Mean wait of Poisson arrivals for one of ``servers`` servers of constant service time: seconds, infinite when full.

    Half of Sakasegawa's approximation for M/M/c (Annals of the Institute of Statistical Mathematics 29, 1977):
    ``S rho^(sqrt(2 (c + 1)) - 1) / (c (1 - rho))``, exact for M/D/1.
    """
    rho = np.asarray(utilisation, float)
    exponent = np.sqrt(2.0 * (np.asarray(servers, float) + 1.0)) - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        wait = 0.5 * service_s * rho**exponent / (servers * (1.0 - rho))
    return np.where(rho < 1.0, wait, np.inf)


def batch_wait(alone_s: Num, full_s: Num, full: Num, servers: Num, per_s: Num) -> Num:
    """Mean time to a prompt's end on ``servers`` workers that compute all waiting prompts in one step: its own step, what is
    left of the one that runs when it comes, and the queue of those that no step has room for.

    A step of one prompt takes ``alone_s``, one of the ``full`` that fit ``full_s``; between them it runs straight. A step
    computes what arrived during the one before.
    """
    each = np.asarray(per_s, float) / servers
    slope = np.where(full > 1.0, np.maximum(full_s - alone_s, 0.0) / np.maximum(full - 1.0, 1e-9), alone_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        met = np.where(each * slope < 1.0, each * (alone_s - slope) / (1.0 - each * slope), full)
    met = np.clip(met, 1.0, np.maximum(full, 1.0))
    step = alone_s + slope * (met - 1.0)
    busy = np.minimum(each * step / met, 1.0)
    each_s = full_s / full
    return step * (1.0 + 0.5 * busy) + queue_wait(each_s, servers, each * each_s)
