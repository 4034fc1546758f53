"""A serving scenario: requests, limits, and a deployment or a search for one."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from ...hwmodels.calibration import load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput
from ...hwmodels.prices import gpu_of_key, load_prices
from ...hwmodels.specs import Cluster, Gpu
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.serving import Bill, Serving, Slo, Workload
from ...sim.inputs.serving_question import ServingQuestion
from .question_file import QuestionFile, flattened
from .search import Search


class ServingScenario(QuestionFile):
    """A whole deployment. See docs/scenarios.md for the file's keys."""

    workload: Workload
    slo: Slo = Slo()
    deployment: Serving | None = None
    search: Search | None = None
    bill: Bill = Bill()
    prices: dict[str, Any] = Field(default_factory=dict)

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
                elsewhere,
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
