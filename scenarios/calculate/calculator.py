"""What a calculator is: a typed record of named inputs, each with a source, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from ...hwmodels.catalog import load_cluster, load_gpu
from ...sim.inputs.model import MoeModel, load_model


@dataclass(frozen=True, slots=True)
class Figure:
    """One result. ``key``: its name in ``expect``, sweeps and JSON; ``unit`` as a metric's ("s", "B", "tokens/s", "")."""

    key: str
    words: str
    unit: str
    value: float


class Calculator(BaseModel):
    """``sources``: input -> where its value is from; ``"*"`` for all others. Every input that is given needs one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    sources: dict[str, str]

    @model_validator(mode="after")
    def _has_sources(self) -> Calculator:
        inputs = [name for name in type(self).model_fields if name not in ("kind", "sources") and name in self.model_fields_set]
        bare = [name for name in inputs if name not in self.sources and "*" not in self.sources]
        unknown = [name for name in self.sources if name != "*" and name not in inputs]
        if bare:
            raise ValueError(f"sources says nothing of {', '.join(bare)}: every input has a source ('*' stands for the others)")
        if unknown:
            raise ValueError(f"sources speaks of {', '.join(unknown)}, which is not given")
        return self

    def figures(self) -> Iterator[Figure]:
        """What follows from the inputs. Raises BadInput where nothing does."""
        raise NotImplementedError


def _gpu(name: str) -> str:
    load_gpu(name)
    return name


def _cluster(name: str) -> str:
    load_cluster(name)
    return name


def _model(value: Any) -> Any:
    model_of(value)
    return value


GpuName = Annotated[str, AfterValidator(_gpu)]
ClusterName = Annotated[str, AfterValidator(_cluster)]
#: A preset, or the fields of a model that has none.
ModelChoice = Annotated[str | dict[str, Any], AfterValidator(_model)]


def model_of(choice: str | dict[str, Any]) -> MoeModel:
    """The preset, or the model whose fields are given."""
    return load_model(choice) if isinstance(choice, str) else MoeModel.model_validate(choice)
