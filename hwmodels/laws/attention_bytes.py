"""HBM bytes of attention, with its scores kept on the chip (tiled) and written out (Dao et al., FlashAttention, 2022).

Every number may be a float or a numpy array; bf16 elements.
"""

from __future__ import annotations

_ELEMENT = 2.0


def tiled_bytes(queries: float, context: float, heads: float, kv_heads: float, head_dim: float) -> float:
    """Queries in, outputs out, keys and values once: what no kernel can avoid while a query block holds all its heads."""
    return _ELEMENT * head_dim * (2.0 * queries * heads + 2.0 * context * kv_heads)


def score_bytes(queries: float, context: float, heads: float) -> float:
    """Scores written and read, and probabilities written and read: four passes over [heads, queries, context]."""
    return 4.0 * _ELEMENT * heads * queries * context
