"""What a rank's HBM holds, and what is left for KV cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ....sim.ep.buffer import MemoryItem
from ....sim.layer.result import Answer
from ...answer.evaluation import Evaluation
from .page import Html, binary_bytes, safe, section, table
from .words import key

# Weights dark, buffers coloured: items come in the order the protocol lists them.
SHADES = (
    "--first",
    "--nvlink",
    "--nic",
    "--sm",
    "--fabric",
    "--nvlink-2",
    "--nic-2",
    "--sm-2",
    "--wait-2",
    "--nvlink-3",
    "--nic-4",
    "--sm-3",
    "--nic-3",
    "--op-other",
    "--second",
    "--wait",
)


def memory(answer: Answer) -> Html:
    """One bar per protocol on the scale of its HBM, and its table with the formula of each part."""
    colours = item_colours(item for layer in answer.layers for item in layer.memory)
    body = "".join(memory_bar(layer.protocol, layer.memory, layer.hbm_bytes, colours) for layer in answer.layers)
    return section(
        "memory", "Memory of one rank", "Against the GPU's whole HBM; what no item names is left for KV cache.", body
    )


def pools_memory(evaluation: Evaluation) -> Html:
    """One bar for every pool of a deployment, on the scale of its GPU's HBM."""
    colours = item_colours(item for pool in evaluation.pools for item in pool.memory)
    body = "".join(
        memory_bar(f"{pool.role} worker", pool.memory, pool.hbm_bytes, colours, "left")
        for pool in evaluation.pools
        if pool.memory
    )
    return section("memory", "Memory of one GPU", "Against the GPU's whole HBM.", body) if body else Html("")


def item_colours(items: Iterable[MemoryItem]) -> dict[str, str]:
    """A colour for every name among ``items``, the same wherever it appears in a page."""
    return {name: f"var({SHADES[i % len(SHADES)]})" for i, name in enumerate(dict.fromkeys(item.name for item in items))}


def memory_bar(
    title: str, items: Sequence[MemoryItem], hbm_bytes: int, colours: Mapping[str, str], rest: str = "left for KV cache"
) -> Html:
    """The ``items`` of one GPU as a bar and a table; ``rest``: what HBM that none of them takes is called."""
    used = sum(i.bytes for i in items)
    scale = max(hbm_bytes, used, 1)
    parts = "".join(
        f'<span class=thin style="width:{100 * i.bytes / scale:.3f}%;background:{colours[i.name]}" '
        f'title="{safe(f"{i.name}: {binary_bytes(i.bytes)}")}"></span>'
        for i in items
    )
    left = hbm_bytes - used
    rows: list[list[object]] = [
        [Html(f"{key(colours[i.name])}{safe(i.name)}"), binary_bytes(i.bytes), _share(i.bytes, hbm_bytes), i.source]
        for i in items
    ]
    if left >= 0:
        name = Html(f"{key('var(--panel)')}<b>{safe(rest)}</b>")
        words = f"{binary_bytes(left)} of {binary_bytes(hbm_bytes)} {rest}"
    else:
        name = Html("<b class=warn>does not fit</b>")
        words = f"does not fit: {binary_bytes(-left)} more than the {binary_bytes(hbm_bytes)} of HBM"
    rows.append([name, binary_bytes(left), _share(left, hbm_bytes), "capacity less the above"])
    bar = f'<div class=strip role=img aria-label="{safe(words)}">{parts}</div>'
    head = table(("part", "bytes", "of HBM", "from"), rows, (0, 3))
    return Html(f"<h3>{safe(title)}: {safe(words)}</h3>{bar}{head}")


def _share(value: int, hbm_bytes: int) -> str:
    return f"{100 * value / hbm_bytes:.2f} %" if hbm_bytes else "–"
