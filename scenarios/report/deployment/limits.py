"""The limits that were asked for: which are met, which are not, by how much, and the lever that would move them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from ...answer.evaluation import Limit
from ...answer.limits import met_words
from ..shell.page import Html, safe, section, table
from ..shell.quantity import relative, said

#: A change that a lever names, as --set takes it.
_CHANGE = re.compile(r"(?<![\w.])((?:[a-z_0-9]+\.)*[a-z_0-9]+=(?:\[[^\]]*\]|\"[^\"]*\"|[\w.-]+))")


def way_out(lever: str, command: str) -> str:
    """``command`` with the changes that ``lever`` names; "" where it names none."""
    changes = list(_CHANGE.findall(lever))
    words = shlex.split(command)
    if "--html" in words:
        del words[words.index("--html") :]
    return shlex.join([*words, *(word for change in changes for word in ("--set", change))]) if changes else ""


def unmet(limits: Sequence[Limit], command: str = "") -> Html:
    """What stands in the way: each unmet limit with its gap and lever, and the command that takes it; empty if all are met."""
    missed = [limit for limit in limits if not limit.met]
    if not missed:
        return Html("")
    items = "".join(
        f"<li><b>{safe(x.words)}</b>: wanted {safe(_bound(x))}, the nearest came to "
        f"<b>{safe(said(x.got, x.unit, x.key))}</b>, {safe(_missed(x))}."
        + (f"<p>{safe(x.lever)}</p>" if x.lever else "")
        + (f"<pre id=way-out-{i}>{safe(out)}</pre><button data-copy=way-out-{i}>copy</button>" if out else "")
        + "</li>"
        for i, x in enumerate(missed)
        for out in [way_out(x.lever, command) if command else ""]
    )
    met = [limit for limit in limits if limit.met]
    rest = f"<p class=note>Met: {safe('; '.join(f'{x.words} {said(x.got, x.unit, x.key)}' for x in met))}.</p>" if met else ""
    lead = "What the nearest deployment misses, by how much, and what would move it."
    return section("limits", "Why the answer is no", lead, f"<ul class=unmet>{items}</ul>{rest}")


def limit_table(limits: Sequence[Limit]) -> Html:
    """All limits, met or not; empty without any."""
    if not limits:
        return Html("")
    levers = any(x.lever for x in limits)
    rows = []
    for x in limits:
        verdict: object = "met" if x.met else Html("<span class=warn>not met</span>")
        if x.chance is not None:
            verdict = f"met {met_words(x)}" if x.met else Html(f"<span class=warn>{safe(met_words(x))}</span>")
        row: list[object] = [x.words, _bound(x), said(x.got, x.unit, x.key), gap(x), verdict]
        rows.append([*row, x.lever or "–"] if levers else row)
    return table(("limit", "wanted", "came out", "difference", "", "lever")[: 6 if levers else 5], rows, (0, 4, 5))


def limits_section(limits: Sequence[Limit]) -> Html:
    """The table of `limit_table` as a part of a page."""
    drawn = limit_table(limits)
    return section("limits", "Against the limits", "", drawn) if drawn else Html("")


def gap(limit: Limit) -> str:
    """How far what came out is from what was wanted."""
    return relative(limit.got / limit.wanted - 1.0) if limit.wanted else said(limit.got - limit.wanted, limit.unit, limit.key)


def _missed(limit: Limit) -> str:
    """The gap in its own unit and as a share: ``"1.40 ms (18 %) too much"``."""
    off = limit.got - limit.wanted
    share = f" ({100 * abs(limit.got / limit.wanted - 1.0):.0f} %)" if limit.wanted else ""
    return f"{said(abs(off), limit.unit, limit.key)}{share} too {'much' if off > 0 else 'little'}"


def _bound(limit: Limit) -> str:
    """What was wanted, and from which side it bounds (seen from what came out and whether that is met)."""
    below = (limit.got <= limit.wanted) == limit.met
    return f"{'at most' if below else 'at least'} {said(limit.wanted, limit.unit, limit.key)}"
