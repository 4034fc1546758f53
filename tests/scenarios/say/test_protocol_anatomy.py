"""The catalogue's page of a protocol: its stages in order, what carries its messages, and whose rows its constants are."""

import pytest

from epicycle.scenarios.say.listing import catalogue_dict
from epicycle.scenarios.say.protocol_anatomy import own_rows, stages_of
from epicycle.sim.ep.protocol import all_protocols, find_protocol


@pytest.mark.parametrize("name", all_protocols())
def test_every_protocol_shows_its_stages(name: str) -> None:
    stages = dict(stages_of(find_protocol(name)))
    assert {stage.split(".")[0] for stage in stages} >= {"dispatch", "combine"}
    assert all(stages.values())


def test_two_libraries_differ_in_stages_or_transports() -> None:
    shown = {name: (record.transports, tuple(stages_of(record))) for name, record in all_protocols().items()}
    alike = [(a, b) for a in shown for b in shown if a < b and shown[a] == shown[b]]
    assert alike in ([], [("flashinfer-one-sided", "one-sided")])  # the same kernel, generated twice


def test_what_is_known_of_one() -> None:
    page = catalogue_dict("protocols", "elastic")["entries"]
    assert page["its own rows"] == "3 of published_ep_2.csv; its transports' 2 of published_ep_2.csv"
    assert page["transports"].startswith("gin-gda")
    assert "4 trips over the network" in page["dispatch.stream"]
    assert own_rows(find_protocol("nixl-ep")).startswith("unmeasured")
