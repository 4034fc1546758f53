"""The bound of a decode step that only exchanges: every (token, expert) over one link at line rate, nothing else.

Every number may be a float or a numpy array. Bytes and seconds.
"""

from __future__ import annotations

from .shape import Num


def exchange_seconds(
    tokens: Num, experts: Num, hidden: Num, bandwidth: Num, dispatch_bytes: Num = 1.0, combine_bytes: Num = 2.0
) -> Num:
    """One layer's dispatch and combine of one micro-batch at line rate: ``(1 + 2) * tokens * experts * hidden / bandwidth``.

    ``dispatch_bytes`` and ``combine_bytes`` are of one element. Every (token, expert) crosses the link, local ones too. Source:
    Insights into DeepSeek-V3 (arXiv 2505.09343), section 2.3.2.
    """
    return (dispatch_bytes + combine_bytes) * tokens * experts * hidden / bandwidth


def exchange_bound_tpot_seconds(exchange: Num, layers: int, micro_batches: int = 2) -> Num:
    """Time per output token of a model whose layers do nothing but exchange, ``micro_batches`` of them one after the other.

    Compute hides behind the other micro-batch's exchange, so this is a lower bound of a step that the network limits. Source:
    arXiv 2505.09343, section 2.3.2 (61 layers, two micro-batches).
    """
    return layers * micro_batches * exchange
