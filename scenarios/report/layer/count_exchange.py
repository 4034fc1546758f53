"""The count exchange, table by table: counts after each hop and the prefix sums that become write offsets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....sim.layer.result import Answer
from ..shell.page import Html, safe, section

SHOWN_RANKS = 16


def exchange(answer: Answer) -> Html:
    """Every named count table of every protocol that exchanged counts; empty above SHOWN_RANKS ranks or without any."""
    if answer.ranks > SHOWN_RANKS:
        return Html("")
    body = ""
    for layer in answer.layers:
        if layer.exchange:
            tables = "".join(
                f"<div class=cells><h4>{safe(name)}</h4>{_cells(counts)}</div>" for name, counts in layer.exchange.items()
            )
            body += f"<h3>{safe(layer.protocol)}</h3><div class=grid>{tables}</div>"
    if not body:
        return Html("")
    lead = (
        "Before a row moves, each rank learns how many rows every peer will send it; running sums of the counts are addresses."
    )
    return section("exchange", "The count exchange", lead, body)


def _cells(counts: NDArray[np.int64]) -> Html:
    """A small table of integers with its indices; zeros are pale, as they are what the eye should skip."""
    grid = counts.reshape(len(counts), -1) if counts.ndim > 1 else counts.reshape(1, -1)
    if not grid.size:
        return Html("<p class=note>empty</p>")
    head = "<th></th>" + "".join(f"<th>{i}</th>" for i in range(grid.shape[1]))
    names = [str(i) for i in range(len(grid))] if counts.ndim > 1 else [""]
    rows = "".join(
        f"<tr><td>{name}</td>" + "".join(f"<td{'' if v else ' class=zero'}>{int(v)}</td>" for v in line) + "</tr>"
        for name, line in zip(names, grid, strict=True)
    )
    return Html(f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>")
