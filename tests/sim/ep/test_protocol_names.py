"""Only the protocols' own files, and what reads others' words for them, name a protocol: everybody else asks its record."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from epicycle.sim.ep.protocol import all_protocols

ROOT = Path(__file__).parents[3]
#: Others' words for them: of measured tables and published deployments, of our own bench rows, of NCCL's tables, of the
#: engines' launch options; the laws fitted to libraries' own rows. And where "elastic" is said of a group that goes on without
#: a failed rank.
LAWS = ("validate/fit/collectives.py", "validate/fit/libraries.py")
VOCABULARY = ("validate/tables", "validate/bench", "validate/serving", *LAWS, "scenarios/launch")
ANOTHER_ELASTIC = ("sim/inputs/requests.py", "sim/serving/faults/")
ROOMS = ("cli.py", "hwmodels", "kernels", "scenarios", "sim", "validate")


def sources() -> Iterator[Path]:
    for room in ROOMS:
        place = ROOT / room
        yield from sorted(place.rglob("*.py")) if place.is_dir() else (place,)


def strings(text: str) -> Iterator[tuple[int, str]]:
    """Every string that is a value; a file's and a function's own description is none."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_no_protocol_is_named_elsewhere() -> None:
    names = set(all_protocols())
    found = [
        f"{place.relative_to(ROOT)}:{line}: {value!r}"
        for place in sources()
        if not place.relative_to(ROOT).as_posix().startswith(("sim/ep/protocols/", *VOCABULARY, *ANOTHER_ELASTIC))
        for line, value in strings(place.read_text(encoding="utf-8"))
        if value in names
    ]
    assert not found, found


def test_a_name_would_be_found() -> None:
    assert list(strings("def f(p):\n    return p == 'low-latency'")) == [(2, "low-latency")]


@pytest.mark.parametrize("name", sorted(all_protocols()))
def test_what_a_record_names_is_there(name: str) -> None:
    record = all_protocols()[name]
    assert record.prompts_by == "" or record.prompts_by in all_protocols()
    assert record.near == record.far or not record.one_domain
    assert record.packed <= (record.capacity is not None)
