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
