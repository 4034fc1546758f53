"""What a rank's HBM holds, and what is left for KV cache."""

from __future__ import annotations

from ...sim.page import Html, binary_bytes, safe, section, table
from ...sim.result import Answer, LayerResult
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
)


def memory(answer: Answer) -> Html:
    """One bar per protocol on the scale of its HBM, and its table with the formula of each part."""
    names = list(dict.fromkeys(item.name for layer in answer.layers for item in layer.memory))
    colours = {name: f"var({SHADES[i % len(SHADES)]})" for i, name in enumerate(names)}
    body = "".join(_of_layer(layer, colours) for layer in answer.layers)
    return section(
        "memory", "Memory of one rank", "Against the GPU's whole HBM; what no item names is left for KV cache.", body
    )


def left_bytes(layer: LayerResult) -> int:
    """HBM that no item takes; negative if the items do not fit."""
    return layer.hbm_bytes - sum(item.bytes for item in layer.memory)


def _of_layer(layer: LayerResult, colours: dict[str, str]) -> Html:
    scale = max(layer.hbm_bytes, sum(i.bytes for i in layer.memory), 1)
    parts = "".join(
        f'<span class=thin style="width:{100 * i.bytes / scale:.3f}%;background:{colours[i.name]}" '
        f'title="{safe(f"{i.name}: {binary_bytes(i.bytes)}")}"></span>'
        for i in layer.memory
    )
    left = left_bytes(layer)
    rows: list[list[object]] = [
        [Html(f"{key(colours[i.name])}{safe(i.name)}"), binary_bytes(i.bytes), _share(i.bytes, layer), i.source]
        for i in layer.memory
    ]
    if left >= 0:
        rows.append(
            [
                Html(f"{key('var(--panel)')}<b>left for KV cache</b>"),
                binary_bytes(left),
                _share(left, layer),
                "capacity less the above",
            ]
        )
        words = f"{binary_bytes(left)} of {binary_bytes(layer.hbm_bytes)} left for KV cache"
    else:
        words = f"does not fit: {binary_bytes(-left)} more than the {binary_bytes(layer.hbm_bytes)} of HBM"
        rows.append(
            [Html("<b class=warn>does not fit</b>"), binary_bytes(left), _share(left, layer), "capacity less the above"]
        )
    bar = f'<div class=strip role=img aria-label="{safe(words)}">{parts}</div>'
    head = table(("part", "bytes", "of HBM", "from"), rows, (0, 3))
    return Html(f"<h3>{safe(layer.protocol)}: {safe(words)}</h3>{bar}{head}")


def _share(value: int, layer: LayerResult) -> str:
    return f"{100 * value / layer.hbm_bytes:.2f} %" if layer.hbm_bytes else "–"
