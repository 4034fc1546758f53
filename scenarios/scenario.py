"""A scenario file: one question, written down. ``load_scenario`` reads it, ``Scenario.resolve`` looks its names up."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from ..hwmodels.catalog import load_cluster
from ..hwmodels.errors import BadInput
from ..hwmodels.specs import Cluster
from ..sim.inputs.deployment import Deployment
from ..sim.inputs.model import MoeModel, load_model, with_overrides
from ..sim.inputs.question import Question, Unanswerable
from ..sim.inputs.traffic import Traffic
from .change import rebased, with_changes
from .complaint import complaint
from .document import Document, KeyPath, ScenarioError, read_document
from .gallery import gallery_path


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
        return dict(_flat(overrides))


class Scenario(BaseModel):
    """One question. See docs/scenarios.md for the file's keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    model: ModelChoice
    cluster: ClusterChoice
    traffic: Traffic
    deployment: Deployment
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

    def resolve(self) -> Question:
        """The question with its model and cluster looked up. Raises ScenarioError naming the file, line and key."""
        model = self._model()
        cluster = self._cluster()
        try:
            return Question(self.name, self.description, model, cluster, self.traffic, self.deployment, self.seed)
        except Unanswerable as error:
            raise ScenarioError(f"{self._document.where(error.key)}: {error}") from None

    def _model(self) -> MoeModel:
        try:
            model = load_model(self.model.preset)
        except BadInput as error:
            raise self._error(("model", "preset"), error) from None
        try:
            return with_overrides(model, self.model.overrides) if self.model.overrides else model
        except BadInput as error:
            raise self._error(self._override("model", self.model.overrides, error), error) from None

    def _cluster(self) -> Cluster:
        try:
            return load_cluster(self.cluster.name, self.cluster.nodes, self.cluster.overrides)
        except BadInput as error:
            raise self._error(self._override("cluster", self.cluster.overrides, error), error) from None

    def _override(self, owner: str, overrides: dict[str, Any], error: BadInput) -> KeyPath:
        """The override that ``error`` speaks of, so that it can be shown where that was written."""
        for key, value in overrides.items():
            if key in str(error) or repr(value) in str(error):
                whole = (owner, "overrides", key)
                return whole if whole in self._document.places else (owner, "overrides", *key.split("."))
        return (owner, "nodes") if "nodes" in str(error) else (owner, "name" if owner == "cluster" else "preset")

    def _error(self, key: KeyPath, error: Exception) -> ScenarioError:
        return ScenarioError(f"{self._document.where(key)}: {error}")


def load_scenario(name_or_path: str | Path, sets: Iterable[str] = ()) -> Scenario:
    """The scenario of the gallery, or in the YAML file, with ``sets`` ("path=value") applied in order.

    A name that ends in .yaml or .yml, holds a slash, or is a Path is a file. Raises ScenarioError, UnknownName, or OSError.
    """
    path = _path(name_or_path)
    document = rebased(read_document(path), path.parent)
    if not isinstance(document.data, dict):
        raise ScenarioError(f"{path}: wanted the keys name, model, cluster, traffic and deployment, got {_kind(document)}")
    document = with_changes(document, sets, tuple(Scenario.model_fields))
    try:
        scenario = Scenario.model_validate(document.data)
    except ValidationError as error:
        raise complaint(error, document, Scenario) from None
    scenario._document = document
    return scenario


def _path(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        return Path(text)
    return gallery_path(text)


def _kind(document: Document) -> str:
    return {type(None): "an empty file", list: "a list"}.get(type(document.data), "a single value")


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
