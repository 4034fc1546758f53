"""Step times of one worker, tabulated from the closed form so that a compiled loop can look them up.

Axes of a step, of one attention group: decoding sequences, their mean context, new prompt tokens, the share of one prompt
among them (its chunk) and the tokens cached before it. Decode steps have a table of their own, with every sequence count up to
`_EVERY`; steps with prompts run launch by launch (`step.worker.for_prompts`). Their time has stairs where GEMMs and attention
begin another tile, so that it is put together from tables that have every stair, ``rows`` (all rows of the step), the decode
table's contexts and ``prompts`` (chunk and cached tokens of one prompt), and from what those leave, ``rest``, which is smooth
and needs few nodes. At the nodes of ``rest`` the sum is the closed form's own value.

Groups of one worker step together (attention data parallelism): the fullest group decides attention, dense layers, head and
exchange, all groups' rows together decide the experts, so ``seconds(mean) + own(fullest) - own(mean)``. With two-batch
overlap the sum is an estimate: what hides then is that of the mean group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....fabric.quick_numba import njit
from ....step.part import Num
from ....step.step import Step, queued_seconds
from ....step.worker import Arrangement, Batch, for_prompts
from ...steady import Setting

Floats = NDArray[np.float64]
#: Values of a node: seconds if no kernel waited for its launch, those of the group's own kernels, flops and HBM bytes of one
#: GPU, and seconds that the host takes to launch all kernels: a step lasts as long as the longer of the first and the last.
SECONDS, OWN, FLOPS, BYTES, QUEUED = range(5)
VALUES = 5
_TILE = 128.0  # query rows of one tile of prompt attention
_BESIDE = 16.0  # tiles of prompts among which one is weighed
_ANY = 2.0**-20  # sequences, as good as none but for the kernels that a step with any takes; rows less it are exact
_EVERY = 256  # decode steps have a node for every count of sequences up to it
_POINTS = 100_000  # of one vectorised call: what fits in a core's cache is quickest


class Table(NamedTuple):
    """What the loop reads; axes rise. ``decode`` [sequences, context, value]; ``rows`` [beside, rows, value] of prompts of
    `_TILE` tokens, alone and beside decoding sequences (experts run other kernels there); ``prompts`` [chunk, cached, value] of
    one more prompt beyond its rows; ``rest`` [sequences, context, prompt tokens, chunk, cached, value]. ``speculated``: rows of
    a decoding sequence. ``score``: weights of (sequences, context tokens, prompt tokens) by which groups are compared for the
    fullest.
    """

    decode_sequences: Floats
    decode_context: Floats
    decode: Floats
    rows: Floats
    prompt_chunk: Floats
    prompt_cached: Floats
    prompts: Floats
    sequences: Floats
    context: Floats
    prompt: Floats
    chunk: Floats
    cached: Floats
    rest: Floats
    speculated: float
    score: Floats


@dataclass(frozen=True, slots=True)
class Reach:
    """The largest state that a table answers for: of one attention group and step."""

    sequences: float
    context: float
    prompt_tokens: float


def step_table(setting: Setting, arrangement: Arrangement, reach: Reach) -> Table:
    """Every node by vectorised calls of ``setting.step``. A pipeline's stage holds ``1 / pp`` of the sequences and tokens."""
    most = max(2.0, np.ceil(reach.sequences))
    every = np.arange(0.0, min(most, _EVERY) + 1.0)
    decode_n = np.concatenate((every, _rising(_EVERY, most, 1.09))) if most > _EVERY else every
    edges = np.arange(_TILE, 8.0 * _TILE + 1.0, _TILE)
    decode_c = np.union1d(_powers(reach.context, 64.0, 2.0**0.25), np.concatenate((edges, edges + 1.0)))
    decode = _decode_nodes(setting, arrangement, decode_n, decode_c)
    speculated = 1.0 + float(setting.speculation.drafts)
    rows = np.arange(0.0, np.ceil(most * speculated + max(reach.prompt_tokens, _BESIDE * _TILE)) + 2.0)
    none, tile = np.zeros_like(rows), np.full_like(rows, _TILE)
    plain = np.stack(
        [
            _mixed_points(setting, arrangement, none + n, none, np.maximum(rows - n * speculated, _ANY), tile, none)
            for n in (0.0, _ANY)
        ]
    )
    chunk, cached = _every_chunk(reach.prompt_tokens), _powers(reach.context, 64.0, 2.0**0.5)
    one = _prompt_nodes(setting, arrangement, chunk, cached, plain[0])
    sequences = np.unique(np.round(np.concatenate(([1.0, 2.0, 4.0], _rising(8.0, most, 1.5)))))
    axes = (
        np.concatenate(([0.0, _ANY], sequences[(sequences > 0.0) & (sequences <= most)])),
        _powers(reach.context, 512.0, 2.0),
        np.concatenate(([1.0], _powers(reach.prompt_tokens, 16.0, 2.0 ** (1.0 / 3.0))[1:])),
        np.union1d([1.0, 1.5 * _TILE, 3.0 * _TILE], _powers(reach.prompt_tokens, 16.0, 2.0)[1:]),
        _powers(reach.context, 512.0, 2.0),
    )
    score = _score(decode, decode_n, decode_c)
    empty = np.zeros((*(axis.size for axis in axes), VALUES))
    table = Table(decode_n, decode_c, decode, plain, chunk, cached, one, *axes, empty, speculated, score)
    points = [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]
    rest = _mixed_points(setting, arrangement, *points)
    _less_stairs(table, np.stack(points, axis=1), rest)
    return table._replace(rest=rest.reshape(empty.shape))


def _decode_nodes(setting: Setting, arrangement: Arrangement, n: Floats, c: Floats) -> Floats:
    speculation = setting.speculation
    drafts = float(speculation.drafts)
    nn, cc = np.meshgrid(np.maximum(n, 1e-6), c, indexing="ij")
    step = setting.step(arrangement, Batch(nn, cc, speculated=1.0 + drafts), drafts)
    return _values(step, nn, setting, arrangement)


def _mixed_points(
    setting: Setting, arrangement: Arrangement, n: Floats, c: Floats, p: Floats, chunk: Floats, cached: Floats
) -> Floats:
    """[point, value] of steps with prompts."""
    drafts = float(setting.speculation.drafts)
    eager = for_prompts(arrangement)
    out = np.empty((n.size, VALUES))
    for start in range(0, n.size, _POINTS):
        at = slice(start, start + _POINTS)
        batch = Batch(n[at], c[at], prefill=p[at], chunk=chunk[at], cached=cached[at], speculated=1.0 + drafts)
        out[at] = _values(setting.step(eager, batch), n[at], setting, eager)
    return out


def _prompt_nodes(setting: Setting, arrangement: Arrangement, chunk: Floats, cached: Floats, plain: Floats) -> Floats:
    """[chunk, cached, value] of one prompt among as many as make `_BESIDE` tiles, or one if it is longer, beyond its rows."""
    ch, kk = (axis.ravel() for axis in np.meshgrid(chunk, cached, indexing="ij"))
    p = np.maximum(ch, _BESIDE * _TILE)
    none = np.zeros_like(ch)
    beyond = _mixed_points(setting, arrangement, none, none, p, ch, kk) - plain[p.astype(np.intp)]
    return (beyond * (ch / p)[:, np.newaxis]).reshape(chunk.size, cached.size, VALUES)


def _values(step: Step, sequences: Floats, setting: Setting, arrangement: Arrangement) -> Floats:
    """[..., value] of every point. A group's own: all but the experts' kernels, which share all groups' rows, and what every
    step costs; the exchange waits for who sends most."""
    own: Num = setting.engine.sequence * sequences
    for part in step.parts:
        if part.group in ("attention", "feed-forward", "head", "communication"):
            own = own + part.step_seconds
    engine = setting.engine
    # Where the host cannot keep up has a bend in time, the two that are compared there have none.
    work = engine.step + engine.sequence * sequences + engine.draft * float(setting.speculation.drafts)
    on_gpu = sum((part.step_seconds for part in step.parts if part.name != "host"), 0.0) - step.hidden_s
    queued: Num = 0.0 if arrangement.graphs else queued_seconds(step.parts, engine) + work
    pace = float(np.asarray(setting.pace, float).ravel()[0])
    columns = (pace * (on_gpu + work), pace * own, step.flops, step.hbm_bytes, pace * queued)
    return np.stack([np.broadcast_to(np.asarray(x, float), sequences.shape) for x in columns], axis=-1)


def _score(decode: Floats, n: Floats, c: Floats) -> Floats:
    """Own seconds that one more sequence, token of context and prompt token cost, from the table's far end."""
    own = decode[..., OWN]
    context_token = max((own[-1, -1] - own[-1, 0]) / max(n[-1] * (c[-1] - c[0]), 1.0), 1e-15)
    sequence = max((own[-1, 0] - own[0, 0]) / max(n[-1], 1.0), 1e-12)
    return np.array([sequence, context_token, sequence])


def _every_chunk(most: float) -> Floats:
    """Every count up to eight tiles, then both sides of every tile's edge."""
    few = np.arange(1.0, min(most, 8.0 * _TILE) + 1.0)
    edges = np.arange(8.0 * _TILE, most + 1.0, _TILE)
    return np.unique(np.concatenate((few, edges, edges + 1.0, [2.0, max(2.0, most)])))


def _rising(start: float, most: float, ratio: float) -> Floats:
    """``start`` (left out where it is a node already) times powers of ``ratio``, the last one ``most``."""
    steps = max(1, int(np.ceil(np.log(max(most / start, 1.0 + 1e-9)) / np.log(ratio))))
    nodes = np.unique(np.round(start * (most / start) ** (np.arange(0, steps + 1) / steps)))
    return nodes[nodes > start] if start == _EVERY else nodes


def _powers(most: float, start: float, ratio: float) -> Floats:
    """0, ``start`` and its multiples by ``ratio`` up to the first that holds ``most``."""

    def up() -> Iterator[float]:
        yield 0.0
        at = start
        while True:
            yield float(round(at))
            if at >= most:
                return
            at *= ratio

    return np.unique(np.array(list(up())))


@njit(cache=True)
def place(axis: Floats, x: float) -> tuple[int, float]:
    """Node below ``x`` and the share of the way to the next; the last stretch goes on beyond the axis."""
    low, high = 0, axis.size - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if axis[middle] <= x:
            low = middle
        else:
            high = middle
    return low, (x - axis[low]) / (axis[low + 1] - axis[low])


@njit(cache=True)
def decode_values(table: Table, n: float, context: float, out: Floats) -> None:
    """``out`` [value] of a step of ``n`` sequences with ``context`` cached tokens each."""
    i, a = place(table.decode_sequences, n)
    j, b = place(table.decode_context, context)
    w00, w01, w10, w11 = (1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b
    for v in range(VALUES):
        out[v] = (
            w00 * table.decode[i, j, v]
            + w01 * table.decode[i, j + 1, v]
            + w10 * table.decode[i + 1, j, v]
            + w11 * table.decode[i + 1, j + 1, v]
        )


@njit(cache=True)
def stairs(table: Table, n: float, context: float, prompt: float, chunk: float, cached: float, out: Floats) -> None:
    """``out`` [value]: all rows' kernels, the decoding sequences' contexts, and the prompts' own attention."""
    whole = min(max(n * table.speculated + prompt, 0.0), table.rows.shape[1] - 1.001)
    beside = 1 if n > 0.0 else 0
    low = int(whole)
    share = whole - low
    i, a = place(table.decode_sequences, n)
    j, b = place(table.decode_context, context)
    m, d = place(table.prompt_chunk, chunk)
    q, e = place(table.prompt_cached, cached)
    prompts = prompt / chunk
    for v in range(VALUES):
        rows = table.rows[beside, low, v] + share * (table.rows[beside, low + 1, v] - table.rows[beside, low, v])
        fewer = table.decode[i, j, v] + b * (table.decode[i, j + 1, v] - table.decode[i, j, v]) - table.decode[i, 0, v]
        more = table.decode[i + 1, j, v] + b * (table.decode[i + 1, j + 1, v] - table.decode[i + 1, j, v])
        more -= table.decode[i + 1, 0, v]
        short = table.prompts[m, q, v] + e * (table.prompts[m, q + 1, v] - table.prompts[m, q, v])
        long = table.prompts[m + 1, q, v] + e * (table.prompts[m + 1, q + 1, v] - table.prompts[m + 1, q, v])
        out[v] = rows + fewer + a * (more - fewer) + prompts * (short + d * (long - short))


@njit(cache=True)
def _less_stairs(table: Table, points: Floats, values: Floats) -> None:
    """Take from ``values`` [point, value] what `stairs` says of ``points`` [point, axis]."""
    known = np.empty(VALUES)
    for at in range(points.shape[0]):
        stairs(table, points[at, 0], points[at, 1], points[at, 2], points[at, 3], points[at, 4], known)
        for v in range(VALUES):
            values[at, v] -= known[v]


@njit(cache=True)
def mixed_values(table: Table, n: float, context: float, prompt: float, chunk: float, cached: float, out: Floats) -> None:
    """``out`` [value] of a step with ``prompt`` new tokens beside ``n`` decoding sequences."""
    i, a = place(table.sequences, n)
    j, b = place(table.context, context)
    k, c = place(table.prompt, prompt)
    m, d = place(table.chunk, chunk)
    q, e = place(table.cached, cached)
    stairs(table, n, context, prompt, chunk, cached, out)
    for corner in range(32):
        w = a if corner & 1 else 1.0 - a
        w *= b if corner & 2 else 1.0 - b
        w *= c if corner & 4 else 1.0 - c
        w *= d if corner & 8 else 1.0 - d
        w *= e if corner & 16 else 1.0 - e
        if w != 0.0:
            node = table.rest[
                i + (corner & 1), j + ((corner >> 1) & 1), k + ((corner >> 2) & 1), m + ((corner >> 3) & 1), q + (corner >> 4)
            ]
            for v in range(VALUES):
                out[v] += w * node[v]
