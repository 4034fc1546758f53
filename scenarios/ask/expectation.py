"""What somebody published about a scenario: the keys ``system``, ``section``, ``prose`` and ``expect`` of its file.

They say nothing about the question itself, so they are taken off before it is read; ``epicycle gallery`` sets the answers
beside them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .document import Document
from .refusal import refusal

Evidence = Literal["predicted", "calibrated", "arithmetic", "measured"]
#: Nothing published is said to hold that is farther off.
WIDEST_PCT = 25.0


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reference(_Record):
    """What a value is set against: another scenario (default: this one), changed by ``set``, at another ``metric`` (or not)."""

    scenario: str = ""
    set: tuple[str, ...] = ()
    metric: str = ""


class Axis(_Record):
    """A key of the scenario, and its value at every published point."""

    path: str
    values: tuple[int | float | str, ...] = Field(min_length=1)


class Corrected(_Record):
    """What the published figure has to be by its own inputs, and what is wrong with it."""

    value: float
    why: str = Field(min_length=20)


class Fitted(_Record):
    """Of a calibrated row: which parameters were fitted, to how many published points, and how many they explain."""

    parameters: tuple[str, ...] = Field(min_length=1)
    points: int = Field(ge=0)
    explains: int = Field(ge=1)


class Expectation(_Record):
    """One published figure, or a series of them along an axis.

    ``published``: the value in ``unit``, a list of values over ``over`` (null: none at that point), or null where the source
    claims none. ``between``: a range that was published instead of a value; the error is to its nearer end, none inside.
    ``set``: changes of the scenario under which it holds. ``relative_to``: the other value of a ratio, change or difference,
    ``as`` says which: ``ratio`` is value / other, ``change`` (value / other - 1) in per cent, ``difference`` value - other,
    ``crossing`` the place on ``over`` where value and other are equal (read off between its points), ``mean`` of the values on
    ``over``.
    ``tolerance_pct`` is relative, but for a ``change``, where it is in points. At most 25.
    """

    metric: str
    words: str = ""
    published: float | tuple[float | None, ...] | None
    between: tuple[float, float] | None = None
    unit: str = ""
    source: str = Field(min_length=4)
    evidence: Evidence
    tolerance_pct: float = Field(gt=0, le=WIDEST_PCT)
    scenario: str = ""
    set: tuple[str, ...] = ()
    over: Axis | None = None
    relative_to: Reference | None = None
    as_: Literal["value", "ratio", "change", "difference", "crossing", "mean"] = Field(default="value", alias="as")
    corrected: Corrected | None = None
    fitted: Fitted | None = None

    @property
    def of_axis(self) -> bool:
        """One value of all points on ``over`` together."""
        return self.as_ in ("crossing", "mean")

    @model_validator(mode="after")
    def _goes_together(self) -> Expectation:
        if (self.relative_to is None) != (self.as_ in ("value", "mean")):
            raise ValueError("relative_to and as (ratio, change, difference or crossing) come together")
        if isinstance(self.published, tuple) and (self.over is None or len(self.over.values) != len(self.published)):
            raise ValueError("published is a series: over needs as many values")
        if self.of_axis and (self.over is None or isinstance(self.published, tuple)):
            raise ValueError(f"a {self.as_} is one value of a whole axis: give over, and no series")
        if self.between is not None and (self.published is not None or self.between[0] > self.between[1]):
            raise ValueError("between is a range, low and high, instead of a published value: leave published null")
        if self.over is not None and self.between is not None and not self.of_axis:
            raise ValueError("between is of one value: over belongs to a series")
        if self.over is not None and isinstance(self.published, float) and not self.of_axis:
            raise ValueError("published is one value, and over has several: give a list, or null for no claim")
        if self.corrected is not None and (self.evidence == "predicted" or not isinstance(self.published, float)):
            raise ValueError("corrected is for one published figure and not for a prediction: one that misses is missed")
        if (self.fitted is None) != (self.evidence != "calibrated"):
            raise ValueError("fitted is for calibrated evidence, and only for that")
        return self


class Published(_Record):
    """``system``: what it reproduces; ``section``: of the list; ``prose``: mechanism, configuration, what is left out."""

    system: str = Field(min_length=1)
    section: int = Field(default=0, ge=0)
    prose: str = Field(min_length=1)
    expect: tuple[Expectation, ...] = ()


KEYS = tuple(Published.model_fields)


def taken_off(document: Document) -> tuple[Document, Published | None]:
    """``document`` without those keys, and what they say (None where it has none). Raises ScenarioError."""
    data = document.data
    if not isinstance(data, dict) or not any(key in data for key in KEYS):
        return document, None
    told: dict[str, Any] = {key: data[key] for key in KEYS if key in data}
    try:
        published = Published.model_validate(told)
    except ValidationError as error:
        raise refusal(error, document, Published) from None
    return Document(document.source, {k: v for k, v in data.items() if k not in KEYS}, document.places), published
