"""A serving scenario: requests, limits, and a deployment or a search for one."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from ...hwmodels.errors import BadInput
from ...hwmodels.prices import load_prices
from ...hwmodels.specs import Gpu
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
        self._check_prices(cluster.node.gpu)
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
            )
        except Unanswerable as error:
            raise self.error_at(error.key, error) from None

    def _check_prices(self, gpu: Gpu) -> None:
        for key, value in self.prices.items():
            try:
                load_prices({key: value}, gpu)
            except BadInput as error:
                whole = ("prices", key)
                written = whole if whole in self.document.places else ("prices", *key.split("."))
                raise self.error_at(written, error) from None
