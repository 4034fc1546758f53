"""An answer as Python gets it: the record itself, and the forms that the commands write."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...hwmodels.errors import BadInput

if TYPE_CHECKING:
    import pandas

R_co = TypeVar("R_co", covariant=True)
_SHOWN_ROWS = 12


class Told(Generic[R_co]):
    """An answer. ``record``: its frozen record, whose fields can also be read from the answer itself (``plan.best``).

    The forms are those of the command of the same name, digit for digit.
    """

    def __init__(
        self,
        record: R_co,
        sentence: str,
        as_dict: Callable[[], dict[str, Any]],
        as_csv: Callable[[], str],
        as_page: Callable[[Path, str], None] | None = None,
    ) -> None:
        self.record = record
        self.sentence = sentence
        self._as_dict, self._as_csv, self._as_page = as_dict, as_csv, as_page

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "record":
            raise AttributeError(name)
        return getattr(self.record, name)

    def __repr__(self) -> str:
        return f"<epicycle {type(self.record).__name__}: {self.sentence}>"

    def to_dict(self) -> dict[str, Any]:
        """What ``--json`` writes, as plain data (docs/python.md has its schemas)."""
        return self._as_dict()

    def to_json(self) -> str:
        """What ``--json`` writes."""
        from ..say.json_text import json_text

        return json_text(self._as_dict())

    def to_csv(self) -> str:
        """What ``--csv`` writes: one flat table, SI units."""
        return self._as_csv()

    def to_pandas(self) -> pandas.DataFrame:
        """The table of `to_csv` as a data frame. Raises BadInput if pandas is not installed."""
        try:
            import pandas
        except ModuleNotFoundError:
            raise BadInput("to_pandas needs pandas: pip install 'epicycle[pandas]' (to_csv and to_dict do without)") from None
        return pandas.read_csv(io.StringIO(self._as_csv()), true_values=["yes"], false_values=["no"])

    def to_html(self, path: str | Path) -> Path:
        """Write the page that ``--html`` writes. Raises BadInput if this answer has none."""
        if self._as_page is None:
            raise BadInput(f"a {type(self.record).__name__} has no page of its own: use to_dict or to_pandas")
        self.page(Path(path))
        return Path(path)

    def page(self, path: Path, command: str = "") -> None:
        """The same; ``command``: what the page says makes it again."""
        assert self._as_page is not None
        self._as_page(path, command)

    def _repr_html_(self) -> str:
        rows = list(csv.reader(io.StringIO(self._as_csv())))
        filled = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
        head = "".join(f"<th scope=col>{escape(rows[0][i])}</th>" for i in filled)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_short(row[i]))}</td>' for i in filled)}</tr>" for row in rows[1 : _SHOWN_ROWS + 1]
        )
        more = len(rows) - 1 - _SHOWN_ROWS
        rest = f"<p>{more} more rows: to_pandas() has them all</p>" if more > 0 else ""
        return f"<p><b>{escape(self.sentence)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _short(cell: str) -> str:
    """Four digits of a number are enough to look at."""
    try:
        return f"{float(cell):.4g}" if "." in cell or "e" in cell else cell
    except ValueError:
        return cell
