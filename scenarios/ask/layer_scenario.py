"""A layer scenario: one MoE layer under one traffic, for ``simulate``."""

from __future__ import annotations

from ...sim.inputs.deployment import Deployment
from ...sim.inputs.question import Memory, Question, Unanswerable
from ...sim.inputs.traffic import Traffic
from .question_file import QuestionFile


class LayerScenario(QuestionFile):
    """One layer. See docs/scenarios.md for the file's keys."""

    traffic: Traffic
    deployment: Deployment
    memory: Memory = "check"

    def resolve(self) -> Question:
        """The question with its model and cluster looked up. Raises ScenarioError naming the file, line and key."""
        model = self.found_model()
        cluster = self.found_cluster()
        try:
            return Question(self.name, self.description, model, cluster, self.traffic, self.deployment, self.seed, self.memory)
        except Unanswerable as error:
            raise self.error_at(error.key, error) from None
