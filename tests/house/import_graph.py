"""Which room imports which: the picture in docs/architecture.md, drawn from the code by `python tests/house/import_graph.py`.

A room is a folder of the package, the floors inside it counted to it; one arrow a line, from who imports to what is imported.
Rooms are listed so that every arrow points downwards: where no such order exists, there is a circle, and drawing it fails with
the rooms on it. (Inside a room, test_house.py holds that no two modules import each other, however far around.)
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("hwmodels", "sim", "kernels", "validate", "scenarios")
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- import graph: drawn by tests/house/import_graph.py -->", "<!-- end of the import graph -->"


def modules() -> list[Path]:
    """Every module of the package, relative to the root; the package's own entry points left out."""
    return [p.relative_to(ROOT) for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))] + [Path("cli.py")]


def room_of(module: Path) -> str:
    """The room that a module lies in, as the picture names it: two folders deep, what lies deeper are its floors."""
    return Path(*module.parent.parts[:2]).as_posix() if len(module.parts) > 1 else module.name


def imported(module: Path) -> Iterator[Path]:
    """The package's own modules that ``module`` imports, wherever in it the import stands; type-checking imports left out."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    unseen = {id(n) for block in ast.walk(tree) if _for_types(block) for n in ast.walk(block)}
    package = module.parent.parts
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level or id(node) in unseen:
            continue
        base = Path(*package[: len(package) - node.level + 1], *(node.module or "").split("."))
        for name in node.names:
            places = (base / f"{name.name}.py", base.parent / f"{base.name}.py", base / "__init__.py")
            found = next((place for place in places if (ROOT / place).is_file()), None)
            if found is not None and found != Path("__init__.py"):
                yield found


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def arrows() -> dict[str, set[str]]:
    """Room -> the other rooms that it imports."""
    graph: dict[str, set[str]] = {}
    for module in modules():
        room = room_of(module)
        graph.setdefault(room, set()).update(found for m in imported(module) if (found := room_of(m)) != room)
    return graph


def order(graph: dict[str, set[str]]) -> list[str]:
    """The rooms, each before all that it imports. Raises CycleError naming a circle."""
    sorter = TopologicalSorter({room: sorted(graph[room]) for room in sorted(graph)})
    return list(sorter.static_order())[::-1]


def picture() -> str:
    """The graph as text."""
    graph = arrows()
    width = max(map(len, graph))
    lines = [f"{room:<{width}} -> {', '.join(sorted(graph[room]))}" if graph[room] else room for room in order(graph)]
    return "\n".join(["```text", *lines, "```"])


def drawn(page: str) -> str:
    """``page`` with the picture between its two marks."""
    head, _, rest = page.partition(BEGIN)
    if not rest:
        raise ValueError(f"{PAGE}: no line {BEGIN}")
    return head + BEGIN + "\n" + picture() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    try:
        PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    except CycleError as circle:
        sys.exit(f"these rooms import each other: {' -> '.join(circle.args[1])}")
