"""``validate``: which kind of table a header announces, who predicts its rows, and how far off each group is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..hwmodels.errors import BadInput
from .predict.collectivex_rows import collectivex_rows
from .predict.ep_timings import ep_rows
from .predict.expert_rows import expert_rows
from .predict.kernel_rows import kernel_rows
from .predict.own_rows import own_rows
from .predict.predicted import Found, Validation, errors_by_group
from .predict.published_rows import published_rows
from .serving.field import COLUMNS as FIELD
from .serving.field import field_table
from .serving.table import COLUMNS, serving_table
from .tables.collectivex import is_collectivex
from .tables.columns import columns_of
from .tables.expert_group import COLUMNS as EXPERTS
from .tables.kernel_tables import kind_of
from .tables.own.rows import is_own
from .tables.published import COLUMNS as PUBLISHED

Progress = Callable[[int, int], None]


def validate_table(path: Path, *, engine: str = "closed", progress: Progress | None = None) -> Validation:
    """Predict ``path`` with the closed form or, ``engine="events"``, event by event on seeded uniform draws.

    Its header says which kind of table it is: EP timings (all engines), published figures, kernels on one GPU or node,
    measured deployments, or field reports beside their scenarios. A JSON file holds CollectiveX's cases.
    Raises BadInput for a malformed table or one of which no row can be predicted.
    """
    found = _other_table(path)
    if found is None:
        found = ep_rows(path, engine, progress)
    elif engine != "closed":
        raise BadInput(f"{path}: --engine {engine}: only EP timings have an event engine, this table the closed form")
    predicted, skipped, notes = found
    if not predicted:
        raise BadInput(f"{path}: none of its {sum(skipped.values())} rows can be predicted: {'; '.join(skipped)}")
    rows = tuple(p.record() for p in sorted(predicted, key=lambda p: p.line))
    return Validation(path.name, engine, errors_by_group(predicted), rows, dict(sorted(skipped.items())), notes)


def _other_table(path: Path) -> Found | None:
    """The predicted rows, skips and notes of any table but EP timings; None for those (or for a table of no kind)."""
    if is_collectivex(path):
        return collectivex_rows(path)
    header = columns_of(path)
    if is_own(header):
        return own_rows(path)
    if set(PUBLISHED) <= header:
        return published_rows(path)
    if set(EXPERTS) <= header:
        return expert_rows(path)
    if header >= COLUMNS:
        return serving_table(path)
    if header >= FIELD:
        return field_table(path)
    kind = kind_of(header)
    return kernel_rows(path, kind) if kind else None
