"""A serving scenario: requests, limits, and a deployment or a search for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationInfo, field_validator

from ...hwmodels.calibration import load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput
from ...hwmodels.prices import gpu_of_key, load_prices
from ...hwmodels.specs import Cluster, Gpu
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.model import load_model
from ...sim.inputs.requests import Faults, Requests
from ...sim.inputs.serving import Bill, Serving, Slo, Workload
from ...sim.inputs.serving_question import ServingQuestion
from .question_file import ModelChoice, QuestionFile, flattened
from .search import Search

if TYPE_CHECKING:
    from ..launch.from_command import Read


class ServingScenario(QuestionFile):
    """A whole deployment. See docs/scenarios.md for the file's keys."""

    workload: Workload
    slo: Slo = Slo()
    deployment: Serving | None = None
    search: Search | None = None
    bill: Bill = Bill()
    requests: Requests | None = None
    faults: Faults | None = None
    prices: dict[str, Any] = Field(default_factory=dict)

    @field_validator("deployment", mode="before")
    @classmethod
    def _from_command_lines(cls, deployment: object, info: ValidationInfo) -> object:
        """A deployment written as engines' command lines (``from``); keys beside it go before theirs."""
        if not isinstance(deployment, dict) or "from" not in deployment:
            return deployment
        beside = {key: value for key, value in deployment.items() if key != "from"}
        return _laid_over(_read_command(deployment["from"], info.data.get("model")).keys, beside)

    @field_validator("prices")
    @classmethod
    def _dotted(cls, prices: dict[str, Any]) -> dict[str, Any]:
        return flattened(prices)

    def resolve(self) -> ServingQuestion:
        """The question with its model and cluster looked up. Raises ScenarioError naming the file, line and key."""
        model = self.found_model()
        cluster = self.found_cluster()
        elsewhere = self._prefill_cluster()
        self._check_prices([c.node.gpu for c in (cluster, elsewhere) if c is not None])
        try:
            return ServingQuestion(
                self.name,
                self.description,
                model,
                cluster,
                self.workload,
                self.slo,
                self.deployment,
                self.prices,
                self.seed,
                self.bill,
                self.requests,
                self.faults,
                elsewhere,
                self._unused(),
            )
        except Unanswerable as error:
            raise self.error_at(error.key, error) from None

    def _prefill_cluster(self) -> Cluster | None:
        """The prefill workers' own hardware, as many nodes as they fill. Raises ScenarioError."""
        worker = self.deployment.prefill if self.deployment is not None else None
        if worker is None or worker.cluster is None:
            return None
        try:
            found = load_cluster(worker.cluster)
            load_calibration(found.calibration)
            return found.model_copy(update={"nodes": min(found.max_nodes, -(-worker.gpus * worker.count // found.node.gpus))})
        except BadInput as error:
            raise self.error_at(("deployment", "prefill", "cluster"), error) from None

    def looked_for(self) -> ServingQuestion:
        """The question for a plan, which uses the search that an answer about a given deployment leaves."""
        return self.model_copy(update={"search": None}).resolve()

    def _unused(self) -> tuple[str, ...]:
        """What changes no number: a search beside a deployment, and what stands in command lines that it is read from."""
        beside = ("not used: search, the file gives its deployment (`epicycle plan` looks for others)",)
        searched = beside if self.search is not None and self.deployment is not None else ()
        return (*searched, *self._left_in_command_lines())

    def _left_in_command_lines(self) -> tuple[str, ...]:
        written = self.document.data.get("deployment") if isinstance(self.document.data, dict) else None
        if not isinstance(written, dict) or "from" not in written:
            return ()
        return tuple(f"not used: {each}" for each in _read_command(written["from"], self.model).unused)

    def _check_prices(self, gpus: list[Gpu]) -> None:
        for key, value in self.prices.items():
            named = gpu_of_key(key)
            gpu = next((gpu for gpu in gpus if gpu.name == named), gpus[0])
            try:
                load_prices({key: value}, gpu)
            except BadInput as error:
                whole = ("prices", key)
                written = whole if whole in self.document.places else ("prices", *key.split("."))
                raise self.error_at(written, error) from None


def _read_command(written: object, model: ModelChoice | None) -> Read:
    from ..launch.from_command import deployment_from

    experts = 0
    if model is not None and "trtllm" in str(written):  # which counts copies among its slots
        try:
            experts = load_model(model.preset).experts
        except BadInput:  # said where the model is looked up
            experts = 0
    return deployment_from(written, experts)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        both[key] = {**both[key], **value} if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both
