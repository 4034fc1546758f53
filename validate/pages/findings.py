"""What a validation run says of itself: how often its intervals held, where its predictions are right and where wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...scenarios.report.shell.page import Html, more, safe, section, table
from .prose import ABLATION, HONESTLY, RIGHT, WRONG, as_html, sections
from .timing import Key, Timing, key_of, name_of, regime_of, regime_words

#: A regime with a mean error up to the first is right, from the second on wrong; percent.
RIGHT_PCT, WRONG_PCT = 5.0, 10.0
LEAST_ROWS = 5  # of a regime that is judged
SHOWN = 8
#: Coverage that counts as held, and the rows from which on a group's coverage is more than chance.
HELD_PCT, TELLING_ROWS = (86.0, 94.0), 100


def coverage(groups: Sequence[Mapping[str, Any]], timings: Iterable[Timing]) -> Html:
    """How many of the rows that no constant was fitted to lie inside their intervals, by group; empty if none has any."""
    widths: dict[Key, list[float]] = defaultdict(list)
    for t in timings:
        if t.high90_us:
            widths[t.key].append(50.0 * (t.high90_us - t.low90_us) / t.predicted_us)
    rows: list[list[object]] = []
    for group in groups:
        if not group.get("unseen_rows"):
            continue
        key, unseen, covered = key_of(group), group["unseen_rows"], group["covered_90_pct"]
        telling = unseen >= TELLING_ROWS and not HELD_PCT[0] <= covered <= HELD_PCT[1]
        shown = Html(f"<b class=warn>{covered:.0f}</b>") if telling else f"{covered:.0f}"
        half = sorted(widths[key])[len(widths[key]) // 2] if widths[key] else None
        rows.append(
            [name_of(key), f"{unseen:,}", f"{group['covered_50_pct']:.0f}", shown, "" if half is None else f"{half:.1f}"]
        )
    if not rows:
        return Html("")
    lead = (
        "Rows that the fit did not see, percent inside their 50 % and 90 % intervals; each is judged by intervals it had no "
        f"part in. Marked: {TELLING_ROWS} rows or more and not {HELD_PCT[0]:.0f} to {HELD_PCT[1]:.0f} %."
    )
    head = ("group", "unseen rows", "in 50 %", "in 90 %", "half-width of 90 %, median, %")
    return section("coverage", "Do the intervals hold?", lead, table(head, rows, (0,)))


@dataclass(frozen=True, slots=True)
class _Regime:
    """Rows of one group in one band of sizes."""

    key: Key
    size: int
    rows: tuple[Timing, ...]

    @property
    def mape_pct(self) -> float:
        return sum(abs(r.error_pct) for r in self.rows) / len(self.rows)

    @property
    def words(self) -> str:
        unit = self.rows[0].unit
        where = f", {regime_words(self.size)} {unit}" if unit else ""
        return f"{name_of(self.key)}{where}: {self.mape_pct:.1f} % of {len(self.rows)} rows"

    @property
    def leaning(self) -> str:
        """Which way it is wrong, and what bounds most of its rows."""
        bias = sum(r.error_pct for r in self.rows) / len(self.rows)
        way = f", {abs(bias):.0f} % too {'slow' if bias > 0 else 'fast'}" if abs(bias) > self.mape_pct / 2 else ", either way"
        bound, _ = Counter(r.bound for r in self.rows).most_common(1)[0]
        return f"{self.words}{way}{f', mostly bound by {bound}' if bound else ''}"


def right_and_wrong(timings: Iterable[Timing]) -> Html:
    """The regimes of this table that are predicted best and worst, and what is known of the shipped calibrations."""
    split: dict[tuple[Key, int], list[Timing]] = defaultdict(list)
    for t in timings:
        split[t.key, regime_of(t.size)].append(t)
    regimes = [_Regime(key, size, tuple(rows)) for (key, size), rows in split.items() if len(rows) >= LEAST_ROWS]
    right = sorted((r for r in regimes if r.mape_pct <= RIGHT_PCT), key=lambda r: (-len(r.rows), r.mape_pct))
    wrong = sorted((r for r in regimes if r.mape_pct > WRONG_PCT), key=lambda r: -r.mape_pct)
    body = _list(RIGHT, right, len(regimes), f"within {RIGHT_PCT:.0f} %", lambda r: r.words)
    body += _list(WRONG, wrong, len(regimes), f"beyond {WRONG_PCT:.0f} %", lambda r: r.leaning)
    known = "".join(f"<h3>{safe(title)}</h3>{as_html(sections()[title])}" for title in (RIGHT, WRONG))
    body += more("What is known of the shipped calibrations on the public tables", known)
    lead = f"Regimes (a group in one band of sizes) of {LEAST_ROWS} rows or more of this table, by mean absolute error."
    return section("verdict", "Where the model is right, and where it is wrong", lead, body)


def _list(title: str, found: Sequence[_Regime], of: int, how: str, words: Callable[[_Regime], str]) -> str:
    items = "".join(f"<li>{safe(words(r))}</li>" for r in found[:SHOWN])
    left = f"<p class=note>and {len(found) - SHOWN} more</p>" if len(found) > SHOWN else ""
    return f"<h3>{safe(title)}</h3><p>{len(found)} of {of} regimes {how}.</p>{f'<ul>{items}</ul>' if items else ''}{left}"


def ablation() -> Html:
    """What each mechanism buys, worked out beforehand."""
    lead = "Worked out beforehand from the public H100 table, not from this one: it takes refits."
    return section("ablation", ABLATION, lead, as_html(sections()[ABLATION]))


def honestly() -> Html:
    """How to read the numbers of the shipped calibrations."""
    return section("honestly", HONESTLY, "Of the shipped calibrations and the public tables.", as_html(sections()[HONESTLY]))
