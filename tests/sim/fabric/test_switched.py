"""Networks with switches: loads against those of pods without any, rates against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.fabric import pods
from epicycle.sim.fabric.switched import Fabric, clos, full_boards, rail_only


@pytest.mark.parametrize("links", [pods.torus(4, 4), pods.torus(3, 5), pods.boardfly(3, 2, 4)])
def test_without_switches_it_is_a_pod(links: np.ndarray) -> None:
    fabric = Fabric(links.astype(float), len(links))
    assert fabric.hops() == pods.hops(links)
    assert np.allclose(fabric.all_to_all_load(), pods.all_to_all_load(links))


@pytest.mark.parametrize("fabric", [rail_only(4, 8, 50.0, 450.0), clos(8, 4, 50.0, 450.0, 2, 3, 2.0), full_boards(4, 4, 10.0)])
def test_every_message_uses_as_many_links_as_its_route_is_long(fabric: Fabric) -> None:
    pairs = fabric.hosts * (fabric.hosts - 1)
    assert fabric.all_to_all_load().sum() == pytest.approx(fabric.hops().mean * pairs)


def test_a_clos_without_oversubscription_is_bound_by_its_nics_and_with_it_by_its_uplinks() -> None:
    nodes, gpus, nic = 8, 4, 50.0
    hosts = nodes * gpus
    away = hosts - gpus  # NVLink takes the own node's
    flat = clos(nodes, gpus, nic, 450.0, 2, 2, 1.0)
    assert flat.all_to_all_rate() == pytest.approx(nic * (hosts - 1) / away)
    beyond = hosts - 2 * gpus  # of the other leaves
    assert clos(nodes, gpus, nic, 450.0, 2, 2, 4.0).all_to_all_rate() == pytest.approx(nic / 4 * (hosts - 1) / beyond)


def test_rails_alone_send_to_other_rails_over_nvlink_on_either_side() -> None:
    assert rail_only(2, 8, 50.0, 450.0).hops().diameter == 6
    # All that leaves a node goes over the NICs, whichever rail it is for.
    assert rail_only(4, 8, 50.0, 450.0).all_to_all_rate() == pytest.approx(50.0 * 31 / 24)


def test_what_falls_apart_or_does_not_divide_is_refused() -> None:
    with pytest.raises(BadInput, match="falls apart"):
        Fabric(np.zeros((2, 2)), 2).hops()
    with pytest.raises(BadInput, match="do not fill leaves"):
        clos(5, 4, 50.0, 450.0, 2, 2, 1.0)
