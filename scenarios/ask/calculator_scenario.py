"""A calculator's scenario: arithmetic over named inputs, ``calculate``, whose ``kind`` says which."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from .document import Document, KeyPath, ScenarioError


class CalculatorScenario(BaseModel):
    """``calculate``: the kind and its inputs; what they may be is said where they are read (scenarios/calculate)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    calculate: dict[str, Any]
    _document: Document = PrivateAttr(default_factory=lambda: Document("scenario", {}, {}))

    @property
    def document(self) -> Document:
        """The file it was read from, with the changes of the command line."""
        return self._document

    def read_from(self, document: Document) -> None:
        """Remember where its values stand, so that errors can say so."""
        self._document = document

    def error_at(self, key: KeyPath, error: Exception) -> ScenarioError:
        """``error`` with the place of ``key`` before it."""
        return ScenarioError(f"{self._document.where(key)}: {error}")
