"""A layer in closed form over a grid of any size: one pass of numpy along the tokens for each combination of everything else.

Its answer is a table, written block by block, so that a million points need no more memory than a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput
from ...hwmodels.units import format_time
from ...sim.inputs.question import Question
from ...sim.layer.closed_form import layer_seconds
from ..ask.document import Document, ScenarioError
from ..ask.layer_scenario import LayerScenario
from ..ask.scenario import changed, load_layer, read_scenario, scenario_document
from .design import Axis, Values, axis
from .point import OPTION, refusal_of

TOKENS = "traffic.tokens_per_rank"
MAX_POINTS = 100_000_000
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Block:
    """Points that differ in their tokens alone: ``values`` of the other axes, ``tokens`` [point], columns -> [point].

    ``refusal``: why they have no answer ("": they have one).
    """

    values: Values
    tokens: NDArray[np.float64]
    columns: dict[str, NDArray[np.float64]]
    refusal: str = ""


@dataclass(slots=True)
class LayerTable:
    """A grid of layers. ``axes``: the other axes, then the tokens. Its blocks can be walked once; then it knows its summary."""

    name: str
    axes: tuple[str, ...]
    points: int
    blocks: Iterable[Block]
    ops: tuple[str, ...]
    refused: Counter[str] = field(default_factory=Counter)
    least: tuple[float, str] = (float("inf"), "")
    most: tuple[float, str] = (0.0, "")

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the written table."""
        return (*self.axes, "layer_s", *(f"{op}_s" for op in self.ops), "tokens_per_s_gpu", "refusal")

    def walk(self) -> Iterator[Block]:
        """The blocks, counted as they go by."""
        for block in self.blocks:
            if block.refusal:
                self.refused[block.refusal] += len(block.tokens)
            else:
                layer = block.columns["layer_s"]
                for best, place in ((True, int(layer.argmin())), (False, int(layer.argmax()))):
                    seconds = float(layer[place])
                    point = (*block.values, f"{block.tokens[place]:.0f}")
                    told = ", ".join(f"{path}={value}" for path, value in zip(self.axes, point, strict=True))
                    if best and seconds < self.least[0]:
                        self.least = seconds, told
                    elif not best and seconds > self.most[0]:
                        self.most = seconds, told
            yield block

    @property
    def sentence(self) -> str:
        """What the whole says, after its blocks have gone by."""
        refused = self.refused.total()
        told = f"{self.points:,} layers in closed form" + (f", {refused:,} refused" if refused else "")
        if refused == self.points:
            return f"{told}."
        (least, at_least), (most, at_most) = self.least, self.most
        return (
            f"{told}: from {format_time(least)} at {at_least} to {format_time(most)} at {at_most}. Uniform routing, no draw; "
            "whether a GPU's memory holds the layer is not looked at."
        )


def layer_table(
    name_or_path: str | Path, overs: Iterable[str], sets: Sequence[str] = (), progress: Progress | None = None
) -> LayerTable:
    """The closed form of the layer scenario with ``sets``, at every combination of ``overs``.

    ``traffic.tokens_per_rank=1..4096`` is every whole number. Raises BadInput for what cannot be read, for a scenario that
    is not a layer, and if there are more points than a table may have.
    """
    load_layer(name_or_path, sets)  # a serving scenario is refused in its own words
    document = changed(scenario_document(name_or_path), sets)
    axes = [axis(text) for text in overs]
    others = [a for a in axes if a.path != TOKENS]
    for a in others:
        if not a.values:
            raise BadInput(
                f"{OPTION} {a.path}={a.low}..{a.high}: only {TOKENS} takes a range with --engine closed: list values"
            )
    tokens = _tokens(next((a for a in axes if a.path == TOKENS), None), document)
    combinations = int(np.prod([len(a.values) for a in others], dtype=np.float64))
    if combinations * len(tokens) > MAX_POINTS:
        raise BadInput(
            f"{combinations * len(tokens):,} points are more than the {MAX_POINTS:,} of one table: give fewer values"
        )
    paths = tuple(a.path for a in others)
    blocks = _blocks(document, paths, [a.values for a in others], tokens, combinations, progress)
    first = next(blocks)
    rest: list[Block] = [first]
    ops = _ops(first)
    while not ops:  # the first combinations may all be refused
        more = next(blocks, None)
        if more is None:
            raise BadInput(f"{name_or_path}: none of {combinations * len(tokens):,} points can be answered: {first.refusal}")
        rest.append(more)
        ops = _ops(more)

    def all_blocks() -> Iterator[Block]:
        yield from rest
        yield from blocks

    named = document.data
    name = str(named["name"]) if isinstance(named, dict) and "name" in named else str(name_or_path)
    return LayerTable(name, (*paths, TOKENS), combinations * len(tokens), all_blocks(), ops)


def _ops(block: Block) -> tuple[str, ...]:
    return tuple(c.removesuffix("_s") for c in block.columns if c not in ("layer_s", "tokens_per_s_gpu"))


def _blocks(
    document: Document,
    paths: Values,
    values: Sequence[Values],
    tokens: NDArray[np.float64],
    combinations: int,
    progress: Progress | None,
) -> Iterator[Block]:
    for done, chosen in enumerate(product(*values)):
        if progress is not None:
            progress(done * len(tokens), combinations * len(tokens))
        changes = tuple(f"{path}={value}" for path, value in zip(paths, chosen, strict=True))
        try:
            question = _question(document, changes, tokens)
            seconds = dict(layer_seconds(question, tokens))
        except BadInput as error:
            yield Block(chosen, tokens, {}, refusal_of(error, changes))
            continue
        layer = np.sum(list(seconds.values()), axis=0)
        yield Block(
            chosen,
            tokens,
            {"layer_s": layer, **{f"{op}_s": s for op, s in seconds.items()}, "tokens_per_s_gpu": tokens / layer},
        )


def _question(document: Document, changes: tuple[str, ...], tokens: NDArray[np.float64]) -> Question:
    """The question at the most tokens of the table: what holds there holds below. Raises BadInput."""
    scenario = read_scenario(changed(document, [*changes, f"{TOKENS}={tokens.max():.0f}"], OPTION))
    assert isinstance(scenario, LayerScenario)
    return scenario.resolve()


def _tokens(swept: Axis | None, document: Document) -> NDArray[np.float64]:
    """Tokens of every rank: of the axis, else the scenario's own."""
    if swept is None:
        scenario = read_scenario(document)
        assert isinstance(scenario, LayerScenario)
        own = scenario.traffic.tokens_per_rank
        if not isinstance(own, int):
            raise BadInput(f"{TOKENS} differs by rank: with --engine closed every rank has as many")
        return np.array([float(own)])
    if not swept.values:
        try:
            low, high = int(swept.low), int(swept.high)
        except ValueError:
            raise ScenarioError(f"{OPTION} {TOKENS}={swept.low}..{swept.high}: wanted whole numbers") from None
        return np.arange(low, high + 1, dtype=np.float64)
    try:
        found = np.array([float(int(value)) for value in swept.values])
    except ValueError:
        raise ScenarioError(f"{OPTION} {TOKENS}: wanted whole numbers, every rank the same") from None
    if found.min() < 1:
        raise ScenarioError(f"{OPTION} {TOKENS}: wanted one token or more, got {found.min():.0f}")
    return found
