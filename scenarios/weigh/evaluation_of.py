"""From a scenario of either kind to its evaluation. Where a deployment is looked for, the answer is the best that is found.

Engines are imported by whoever needs them: a closed form does not load the event engine.
"""

from __future__ import annotations

from collections.abc import Callable

from ...hwmodels.backends import Backend
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.question import Question
from ...sim.inputs.serving import Serving
from ...sim.inputs.serving_question import ServingQuestion
from ..answer.evaluation import Evaluation, Plan
from ..answer.words.number_text import number_text
from ..ask.held import NotHeld, holding
from ..ask.question_file import ClusterChoice
from ..ask.scenario import CalculatorScenario, LayerScenario, Scenario, ServingScenario, Simulated
from ..ask.search import Search

Progress = Callable[[int, int], None]


def evaluation_of(scenario: Scenario) -> Evaluation:
    """The scenario's evaluation. Raises BadInput where there is none, with the reason and the lever."""
    if isinstance(scenario, CalculatorScenario):
        from ..calculate.answer import answer_of

        return answer_of(scenario)
    if isinstance(scenario, ServingScenario) and scenario.deployment is None:
        return _best(plan_of(scenario))
    question = scenario.resolve()
    try:
        return evaluation_of_question(question)
    except Unanswerable as error:
        raise scenario.error_at(error.key, error) from None


def evaluation_of_question(question: Question | ServingQuestion, engine: Backend | None = None) -> Evaluation:
    """One layer, played event by event, or one deployment, in closed form or by its requests one by one where it asks for them.
    ``engine``: if not as shipped. Raises BadInput."""
    if isinstance(question, Question):
        from ...sim.layer.layer import simulate
        from ..answer.layer_evaluation import layer_evaluation

        return layer_evaluation(question, simulate(question))
    if question.plays:
        from ..serve.run import serve

        return serve(question, engine).evaluation
    if question.serving is not None and question.serving.mode in ("decode", "prefill"):
        from ..answer.one_pool import evaluate_pool

        return evaluate_pool(question, engine)
    from ..answer.evaluate import evaluate

    return evaluate(question, engine)


def plan_of(scenario: ServingScenario, progress: Progress | None = None) -> Plan:
    """The plan that the scenario's search makes. Raises BadInput."""
    from ..plan.plan import plan

    search = scenario.search or Search()
    if scenario.deployment is not None:
        try:
            search = holding(search, scenario.deployment)
        except NotHeld as error:
            raise scenario.error_at(error.key, error) from None
    try:
        return plan(scenario.looked_for(), search, progress)
    except Unanswerable as error:
        raise scenario.error_at(error.key, error) from None


def with_deployment(scenario: Simulated) -> Simulated:
    """``scenario`` with a deployment: its own, or the best that its search finds, on the cluster where it was found."""
    if isinstance(scenario, LayerScenario) or scenario.deployment is not None:
        return scenario
    best = _best(plan_of(scenario))
    assert best.serving is not None
    return _settled(scenario, best.serving, best.cluster, best.gpus)


def with_closest(scenario: Simulated) -> tuple[Simulated, str]:
    """The same; where nothing meets the limits, with the deployment that comes closest, and what is to be said of it."""
    if isinstance(scenario, LayerScenario) or scenario.deployment is not None:
        return scenario, ""
    plan = plan_of(scenario)
    if plan.best is not None and plan.best.serving is not None:
        return _settled(scenario, plan.best.serving, plan.best.cluster, plan.best.gpus), ""
    closest = plan.closest
    if closest is None or closest.serving is None:
        _best(plan)
    assert closest is not None and closest.serving is not None
    pools = "; ".join(f"{pool.role} {pool.arrangement}" for pool in closest.pools)
    said = f"None of {plan.considered:,} deployments meets the limits; of the closest, {pools}: "
    return _settled(scenario, closest.serving, closest.cluster, closest.gpus), said


def _settled(scenario: ServingScenario, serving: Serving, where: str, gpus: int) -> ServingScenario:
    others = scenario.search.clusters if scenario.search is not None else ()
    elsewhere = next((ref for ref in others if load_cluster(ref).name == where), "")
    overrides = {} if elsewhere else scenario.cluster.overrides
    name = elsewhere or scenario.cluster.name
    nodes = -(-gpus // load_cluster(name, None, overrides).node.gpus)
    cluster = ClusterChoice(name=name, nodes=nodes, overrides=overrides)
    found = scenario.model_copy(update={"deployment": serving, "cluster": cluster, "search": None})
    found.read_from(scenario.document)
    return found


def _best(plan: Plan) -> Evaluation:
    if plan.best is not None:
        return plan.best
    missed = next((limit for limit in plan.limits if not limit.met), None)
    why = ""
    if missed:
        got, wanted = (number_text(value, missed.unit, missed.key) for value in (missed.got, missed.wanted))
        why = f": {missed.words} {got}, wanted {wanted}: {missed.lever}"
    raise BadInput(f"{plan.name}: none of {plan.considered:,} deployments meets the limits{why}")
