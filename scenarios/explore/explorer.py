"""A scenario whose keys are moved: what each choice answers, what lies around it, the point played, and how to ask again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode

import yaml

from ...hwmodels.errors import BadInput
from ...hwmodels.units import format_time
from ...sim.inputs.serving_question import ServingQuestion
from ..answer.evaluation import Evaluation
from ..ask.scenario import ServingScenario, Source, changed, load_serving, read_scenario
from ..weigh.evaluation_of import evaluation_of, with_deployment
from .around import Around, around
from .knobs import knobs, sets_of

Chosen = Mapping[str, str]
#: Requests that a play has.
REQUESTS = 1000


class Explorer:
    """A scenario whose keys are moved. ``source``: what the command line named; ``sets``: what it changed.

    A choice is a mapping of knobs' paths to values, those that were not moved left out or as they are. Raises BadInput.
    """

    def __init__(self, source: Source, sets: list[str]) -> None:
        self.source, self.sets = str(source), sets
        scenario = with_deployment(load_serving(source, sets))
        assert isinstance(scenario, ServingScenario)
        self.name = scenario.name
        self.document = scenario.document
        if scenario.deployment is not None and not _has_deployment(self.document.data):
            found = yaml.safe_dump(
                scenario.deployment.model_dump(mode="json", exclude_none=True), default_flow_style=True, width=10**6
            )
            self.sets = [*sets, f"deployment={found.strip()}"]
            self.document = changed(self.document, [self.sets[-1]])
        self.knobs = knobs(scenario)
        self._answered = lru_cache(maxsize=32)(self._answer)

    def ask(self, chosen: Chosen) -> tuple[Evaluation | None, str]:
        """The closed form's answer, or the line that says why there is none."""
        return self._answered(tuple(sets_of(self.knobs, chosen)))

    def forget(self) -> None:
        """Answer anew what was answered before."""
        self._answered.cache_clear()

    def around(self, chosen: Chosen) -> Around:
        """The deployments around the chosen one, or why there are none to show."""
        try:
            return around(self._question(chosen))
        except BadInput as error:
            return Around((), str(error))

    def command(self, chosen: Chosen, command: str = "explain") -> str:
        """The command line that asks the same."""
        sets = [*self.sets, *sets_of(self.knobs, chosen)]
        return shlex.join(["epicycle", command, self.source, *(word for each in sets for word in ("--set", each))])

    def written(self, chosen: Chosen) -> str:
        """The scenario file of what is chosen."""
        data = changed(self.document, sets_of(self.knobs, chosen)).data
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)

    def query(self, chosen: Chosen) -> str:
        """What a link to the page adds to its address, so that it opens with the same choice."""
        moved = {knob.path: chosen[knob.path] for knob in self.knobs if chosen.get(knob.path, knob.now) != knob.now}
        return f"?{urlencode(moved)}" if moved else ""

    def linked(self, query: str) -> dict[str, str]:
        """The choice of a link. What no knob can take is left as it is: a link may come from another scenario's page."""
        known = {knob.path: knob for knob in self.knobs}
        given = parse_qsl(query.removeprefix("?"))
        return {path: value for path, value in given if path in known and value in known[path].values}

    def played_requests(self, chosen: Chosen) -> str:
        """The same point with its requests played one by one: a sentence."""
        from ..api.questions import serve

        try:
            return serve(self._scenario(chosen), requests=REQUESTS).sentence
        except BadInput as error:
            return str(error)

    def played_exchange(self, chosen: Chosen) -> str:
        """The same point with its decode step's exchange played event by event: a sentence."""
        from ...hwmodels.backends import load_backend
        from ...sim.step.worker import precision_of
        from ..answer.operating_point import setting_of
        from ..plan.events import longer_tpot_s, played_seconds

        answer, why = self.ask(chosen)
        if answer is None:
            return why
        question = self._question(chosen)
        serving = question.serving
        assert serving is not None
        if serving.mode == "prefill":
            return "a prefill pool alone decodes nothing: there is no exchange of a decode step to play"
        setting = setting_of(question, serving, load_backend(serving.backend), precision_of(question.model, serving))
        worker, batch = serving.decode, answer.metric("batch").value
        longer = longer_tpot_s(setting, question.workload.routing, worker, batch, question.seed, played_seconds)
        if longer is None:
            return f"{worker.protocol}: no exchange of tokens can be played for this worker (tp {worker.tp}, dp {worker.dp})"
        tpot = answer.metric("tpot").value
        return (
            f"Played event by event with drawn routing, TPOT is {format_time(tpot + longer)}; the closed form says "
            f"{format_time(tpot)} ({100 * longer / tpot:+.1f} %)."
        )

    def _answer(self, sets: tuple[str, ...]) -> tuple[Evaluation | None, str]:
        try:
            return evaluation_of(read_scenario(changed(self.document, list(sets)))), ""
        except BadInput as error:
            return None, str(error)

    def _scenario(self, chosen: Chosen) -> ServingScenario:
        found = read_scenario(changed(self.document, sets_of(self.knobs, chosen)))
        assert isinstance(found, ServingScenario)
        return found

    def _question(self, chosen: Chosen) -> ServingQuestion:
        return self._scenario(chosen).resolve()


def _has_deployment(data: object) -> bool:
    return isinstance(data, dict) and "deployment" in data
