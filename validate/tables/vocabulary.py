"""The words of measurement rows: the tables, their columns, and what a row says that it crossed.

Whatever writes rows (`validate.bench`) and whatever reads them uses these. A table's own columns are those of the published
tables; ``SEEN`` is what a measurement of ours says besides: on what, how often, how far apart, at what clock.
"""

from __future__ import annotations

from collections.abc import Mapping

#: What the data of a row crossed: constants are fitted only from rows that show them.
SCOPES = {
    "kernel": "one GPU: its SMs and HBM; several virtual ranks share it and nothing crosses a link",
    "one-node": "the GPUs of one node and the links between them",
    "multi-node": "several nodes: the links inside and the NICs between",
    "nvlink-domain": "GPUs of several hosts in one NVLink domain",
}
MODE_SCOPES = {"virtual": "kernel", "node": "one-node", "cluster": "multi-node"}

TABLES: dict[str, tuple[str, ...]] = {
    "ep_comm": (
        "system", "nodes", "gpus_per_node", "library", "protocol", "op", "payload_dtype", "routing", "tokens_per_rank",
        "hidden", "top_k", "experts", "comm_sms", "latency_us", "role",
    ),
    "grouped_gemm": (
        "system", "library", "kernel", "dtype", "routing", "tokens", "hidden", "inter", "top_k", "experts", "ep", "latency_us",
        "role",
    ),
    "gemm": ("system", "kernel", "dtype", "m", "n", "k", "latency_us", "role"),
    "copy": ("system", "kernel", "dtype", "elements", "latency_us", "role"),
}  # fmt: skip
SEEN = (
    "mode", "scope", "virtual_ranks", "case", "latency_low_us", "latency_high_us", "runs", "bytes", "flops",
    "share_of_ceiling", "torch_us", "speedup", "error", "tile", "imbalance", "sm_clock_mhz", "power_w", "throttled", "gpu",
    "driver", "torch", "triton", "commit", "date",
)  # fmt: skip
#: The columns that say which measurement a row is, whatever it read: two rows equal in these are of the same thing.
NOT_IDENTITY = frozenset(("latency_us", "role", *SEEN)) - {"mode", "case", "virtual_ranks"}
EVERY = ("table", *dict.fromkeys(column for columns in TABLES.values() for column in columns), *SEEN)


def identity(row: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """What a row measures: its shape, kernel and mode, as text, in a fixed order."""
    return tuple((c, str(row[c])) for c in EVERY if c not in NOT_IDENTITY and row.get(c) not in (None, ""))


def scope_of(row: Mapping[str, object]) -> str:
    """The scope a row states, or, of a row written before scopes were, that of its mode ("one-node" if it has none)."""
    return str(row.get("scope") or MODE_SCOPES.get(str(row.get("mode") or ""), "one-node"))
