"""The validation page's section on this project's own kernels: measured by us, predicted by us."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np

from ..fit.shipped import OWN_TABLES, own_fit
from ..predict.predicted import Validation
from ..validate import validate_table

_HEAD = """\
## Our own kernels

Measured by us, predicted by us: the rows of `validate/measured` as `epicycle bench` wrote them on one H200, eight
virtual ranks on it, kernels of commit 1fc0ff6. All launches are described as `kernels/` makes them and fitted
together ({free} constants for {kernels} kernels and {rows} rows: one launch time, one ratio of HBM to L2 latency, one
sharpness of kernels that post stores and one time of a program without rows for all; a chain and a share of HBM for
each kernel; shares of tensor rate and HBM, sharpness and fill for each precision). The bars were set before the fit:
4 % where a row takes 20 us or more, 8 % below.
"""

_TAIL = """\
With the rows of 64 and 1,024 tokens left out of the fit, those are met within {aside:.1f} % on average, {inside:.0f}
% of them within 8 %. A whole layer is the sum of its launches, over drawn routing: within {layer:.1f} % on average,
{worst:.0f} % at worst.

What misses its bar, and why as far as we know:

- *permute*: its rows from 20 us miss by 5.9 % on average, 11 % at 4,096 tokens. There it took 171 us, and 144 to
  153 us in a trial of the same kernel, shape and grid on the same kind of GPU; predicted are 153. What is explained: at
  1,024 tokens bench rotates over 29 MB of tokens, which L2 keeps, so that its memory only takes stores. What was tried
  and is not it: a price of stores above loads, and stores left in L2 at a replay's end (swiglu would be missed by 24 %).
- *a low-latency layer* of 16 tokens in fp8 is predicted 8.1 % too long, the one of 19 layers beyond 8 %; that of 1
  token in bf16 7.6 % too short. The same two in the other precision are within 2 %, and products that read only weights come in
  two states 12 % apart (118 and 132 us: the part of 470 MB that L2 can keep), so that the rows cannot say more.

What a layer is beside its phases: nothing overlaps. Bench plays a layer's launches on one stream in one graph, each
rank's after the other's, and the sum of them is its time once programs without rows are counted. Until these kernels
were rewritten, a product had one program for every row tile there could be, twice as many as a high-throughput
layer has rows for and several times those of a low-latency one; each passes through an SM, reads how many rows there
are and returns, {empty:.1f} us later. Products now are persistent and walk only tiles with rows.

What mended the rest. Two pairs of L2 thresholds were chosen by hand on these same rows, those of 64 and 1,024 tokens
among them: the figures for rows left out of the fit are kinder than a blind test.

- Programs without rows: low-latency layers 6.8 to 3.9 %, high-throughput 3.3 to 2.8 %.
- What a low-latency send waits for is one atomic per expert of a token, which L2 answers wherever rows lie: its chain
  is as long when they are in HBM (low-latency dispatch below 20 us 7.0 to 2.0 %).
- What returns (combine_send) is never timed alone; its loop is that of the receive, and so are its share of HBM and its
  time per row, which takes three constants away and changes no figure. Bench times it alone today.
- A launch ends with its longest program: a low-latency receive waits for the fullest (expert, source) pair, not for the
  mean, and copying a row is its chain, so that the longer of both counts (8.8 to 3.1 %).
- Inside a rank, loads are found in L2 by what is read, whatever is written, and what is found there is not read from
  HBM (permute 10.8 to 5.9 %).
- Of two tiles that share an SM the last may have it for itself (high-throughput layers of fp8 at 64 tokens: 12 to 5 %).
- The counting launches (layout, notify) were not timed alone: their chain is undetermined, and layers do not show it.

What one GPU's rows cannot tell: whether a share of HBM is the memory's or the SMs'. Launches, chains, rows one by one,
empty programs and tensor rates do not scale with memory here, shares do; a kernel that its SMs hold back at 60 % of this
memory would reach 86 % of an H100's. That more programs and warps left permute where it was (within 5 %, in the
trial) speaks for the memory. Rows of an H100 are kept aside, never fitted to, and will say.

The kernels have been rewritten since; their constants are those of their predecessors until rows of the new ones are
here. Nothing of ours has crossed a link: on a node or over rails, link efficiencies are those of DeepEP's kernels,
and answers widen and say so.
"""


def section() -> Iterator[str]:
    """The section's lines."""
    folder = Path(str(files("epicycle.validate").joinpath("measured")))
    outcomes = [validate_table(folder / table) for table in OWN_TABLES]
    whole, aside = own_fit(), own_fit(frozenset((64, 1024)))
    yield _HEAD.format(free=whole.free, kernels=len(whole.constants), rows=len(whole.rows))
    yield "| protocol | op | rows from 20 us | MAPE, % | rows below | MAPE, % |"
    yield "|---|---|--:|--:|--:|--:|"
    yield from _rows(outcomes)
    yield ""
    left = np.abs(np.expm1(np.log(aside.predicted_s / np.array([r.measured_s for r in aside.rows]))))[~aside.used]
    layers = np.array([row.op == "layer" for row in whole.rows])
    error = np.abs(whole.predicted_s / np.array([r.measured_s for r in whole.rows]) - 1.0)[layers]
    figures = {"aside": left.mean(), "inside": np.mean(left <= 0.08), "layer": error.mean(), "worst": error.max()}
    yield _TAIL.format(empty=whole.shared["empty"], **{name: 100.0 * float(value) for name, value in figures.items()})


def _rows(outcomes: list[Validation]) -> Iterator[str]:
    errors: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for outcome in outcomes:
        for row in outcome.rows:
            key = (str(row["protocol"]), str(row.get("group_op") or row["op"]))
            long, short = errors.setdefault(key, ([], []))
            measured = float(row["latency_us"])
            (long if measured >= 20.0 else short).append(100.0 * abs(float(row["predicted_us"]) / measured - 1.0))
    for (protocol, op), (long, short) in sorted(errors.items()):
        cells = [part for some in (long, short) for part in (str(len(some)), f"{np.mean(some):.1f}" if some else "")]
        yield f"| {protocol} | {op} | {' | '.join(cells)} |"
