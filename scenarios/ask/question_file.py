"""What every scenario file says, whatever it asks: a name, a model, a cluster, a seed; and how those are looked up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from ...hwmodels.calibration import load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput
from ...hwmodels.specs import Cluster
from ...sim.inputs.model import MoeModel, load_model, with_overrides
from .document import Document, KeyPath, ScenarioError


class ModelChoice(BaseModel):
    """A model preset or the path of a Hugging Face ``config.json``, and the fields in which this one differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field(min_length=1)
    overrides: dict[str, Any] = {}


class ClusterChoice(BaseModel):
    """A cluster of the catalogue, its number of nodes (default: the catalogue's) and dotted keys in which this one differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    nodes: int | None = Field(default=None, ge=1, le=4096)
    overrides: dict[str, Any] = {}

    @field_validator("overrides")
    @classmethod
    def _dotted(cls, overrides: dict[str, Any]) -> dict[str, Any]:
        return flattened(overrides)


class QuestionFile(BaseModel):
    """The keys that both kinds of scenario share. See docs/scenarios.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    model: ModelChoice
    cluster: ClusterChoice
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    _document: Document = PrivateAttr(default_factory=lambda: Document("scenario", {}, {}))

    @field_validator("name", "description")
    @classmethod
    def _printable(cls, text: str) -> str:
        words = " ".join(text.split())
        if not words.isprintable():
            raise ValueError(f"has a control character in it: {words[:60]!r}")
        return words

    @field_validator("model", mode="before")
    @classmethod
    def _model_by_name(cls, value: object) -> object:
        return {"preset": value} if isinstance(value, str) else value

    @field_validator("cluster", mode="before")
    @classmethod
    def _cluster_by_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @property
    def document(self) -> Document:
        """The file it was read from, with the changes of the command line."""
        return self._document

    def read_from(self, document: Document) -> None:
        """Remember where its values stand, so that errors can say so."""
        self._document = document

    def found_model(self) -> MoeModel:
        """The model looked up. Raises ScenarioError naming the file, line and key."""
        try:
            model = load_model(self.model.preset)
        except BadInput as error:
            raise self.error_at(("model", "preset"), error) from None
        try:
            return with_overrides(model, self.model.overrides) if self.model.overrides else model
        except BadInput as error:
            raise self.error_at(self._override("model", self.model.overrides, error), error) from None

    def found_cluster(self) -> Cluster:
        """The cluster looked up. Raises ScenarioError naming the file, line and key."""
        try:
            cluster = load_cluster(self.cluster.name, self.cluster.nodes, self.cluster.overrides)
        except BadInput as error:
            raise self.error_at(self._override("cluster", self.cluster.overrides, error), error) from None
        try:
            load_calibration(cluster.calibration)
        except BadInput as error:
            raise self.error_at(("cluster", "overrides", "calibration"), error) from None
        return cluster

    def error_at(self, key: KeyPath, error: Exception) -> ScenarioError:
        """``error`` with the place of ``key`` before it."""
        return ScenarioError(f"{self._document.where(key)}: {error}")

    def _override(self, owner: str, overrides: dict[str, Any], error: BadInput) -> KeyPath:
        """The override that ``error`` speaks of, so that it can be shown where that was written."""
        for key, value in overrides.items():
            if key in str(error) or repr(value) in str(error):
                whole = (owner, "overrides", key)
                return whole if whole in self._document.places else (owner, "overrides", *key.split("."))
        return (owner, "nodes") if "nodes" in str(error) else (owner, "name" if owner == "cluster" else "preset")


def flattened(tree: dict[str, Any]) -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    return dict(_flat(tree, ""))


def _flat(tree: dict[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
