"""The page itself: Dash on 127.0.0.1. Sliders ask the closed form; a button plays the point's requests; another copies it."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Mapping
from typing import Any

import yaml

from ...hwmodels.errors import BadInput
from ...hwmodels.units import format_time
from ..answer.evaluation import Evaluation
from ..answer.words.glossary import bound_words
from ..answer.words.number_text import number_text
from ..ask.scenario import ServingScenario, Source, changed, load_serving, read_scenario
from ..weigh.evaluation_of import evaluation_of, with_deployment
from .knobs import Knob, knobs, sets_of

ADDRESS = "127.0.0.1"
_SHOWN = (
    *("tpot", "ttft", "output_tokens_per_s_gpu", "usd_per_mtok_output", "usd_per_hour", "requests_per_s", "concurrency", "mfu"),
    "mbu",
)


class Explorer:
    """A scenario whose keys are moved. ``source``: what the command line named; ``sets``: what it changed."""

    def __init__(self, source: Source, sets: list[str]) -> None:
        self.name, self.sets = str(source), sets
        scenario = with_deployment(load_serving(source, sets))
        assert isinstance(scenario, ServingScenario)
        self.document = scenario.document
        if scenario.deployment is not None and not _has_deployment(self.document.data):
            found = yaml.safe_dump(
                scenario.deployment.model_dump(mode="json", exclude_none=True), default_flow_style=True, width=10**6
            )
            self.sets = [*sets, f"deployment={found.strip()}"]
            self.document = changed(self.document, [self.sets[-1]])
        self.knobs = knobs(scenario)

    def ask(self, chosen: Mapping[str, str]) -> tuple[Evaluation | None, str]:
        """The closed form's answer, or the line that says why there is none."""
        try:
            return evaluation_of(read_scenario(changed(self.document, sets_of(self.knobs, chosen)))), ""
        except BadInput as error:
            return None, str(error)

    def command(self, chosen: Mapping[str, str], command: str = "explain") -> str:
        """The command line that asks the same."""
        sets = [*self.sets, *sets_of(self.knobs, chosen)]
        return shlex.join(["epicycle", command, self.name, *(word for each in sets for word in ("--set", each))])

    def written(self, chosen: Mapping[str, str]) -> str:
        """The scenario file of what is chosen."""
        data = changed(self.document, sets_of(self.knobs, chosen)).data
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)

    def played(self, chosen: Mapping[str, str]) -> str:
        """The same point with its requests played one by one: a sentence."""
        from ..api.questions import serve

        try:
            return serve(read_scenario(changed(self.document, sets_of(self.knobs, chosen))), requests=1000).sentence
        except BadInput as error:
            return str(error)


def _has_deployment(data: object) -> bool:
    return isinstance(data, dict) and "deployment" in data


def explore(source: Source, sets: list[str], port: int = 0) -> tuple[Any, int]:
    """The Dash app of a scenario, and a free port for it on this machine. Raises BadInput, also where Dash is not installed."""
    try:
        import dash  # noqa: F401
    except ModuleNotFoundError:
        raise BadInput("explore needs Dash: pip install 'epicycle[explore]'") from None
    explorer = Explorer(source, sets)
    return _app(explorer), port or _free_port()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((ADDRESS, 0))
        port: int = found.getsockname()[1]
        return port


def _app(explorer: Explorer) -> Any:
    from dash import Dash, Input, Output, State, dcc, html

    app = Dash("epicycle", title=f"{explorer.document.data['name']} · epicycle explore", serve_locally=True, update_title="")  # type: ignore[index,call-overload]
    controls = [_control(html, dcc, i, knob) for i, knob in enumerate(explorer.knobs)]
    app.layout = html.Main(
        [
            html.H1(f"{explorer.document.data['name']}", style={"fontSize": "1.2em"}),  # type: ignore[index,call-overload]
            html.Div(
                [
                    html.Div(controls, style={"flex": "1 1 320px", "maxWidth": "480px"}),
                    html.Div(
                        [
                            html.P(id="sentence", style={"fontWeight": "bold"}),
                            html.Table(id="numbers"),
                            dcc.Graph(id="steps", config={"displayModeBar": False}, style={"height": "320px"}),
                            html.Div(id="bill"),
                            html.Button("play 1,000 requests", id="play"),
                            dcc.Loading(html.P(id="played")),
                            html.H2("the same again", style={"fontSize": "1em"}),
                            html.Pre(id="command", style={"whiteSpace": "pre-wrap"}),
                            dcc.Clipboard(target_id="command", title="copy the command"),
                            html.Details(
                                [
                                    html.Summary("as a file"),
                                    html.Pre(id="yaml"),
                                    dcc.Clipboard(target_id="yaml", title="copy the file"),
                                ]
                            ),
                        ],
                        style={"flex": "2 1 480px"},
                    ),
                ],
                style={"display": "flex", "flexWrap": "wrap", "gap": "2em"},
            ),
        ],
        style={"fontFamily": "system-ui, sans-serif", "maxWidth": "1200px", "margin": "1em auto", "padding": "0 1em"},
    )
    inputs = [Input(f"knob-{i}", "value") for i in range(len(explorer.knobs))]

    def chosen(values: tuple[Any, ...]) -> dict[str, str]:
        return {
            knob.path: knob.values[int(value)] if knob.slides else str(value)
            for knob, value in zip(explorer.knobs, values, strict=True)
        }

    labels = [Output(f"label-{i}", "children") for i in range(len(explorer.knobs))]
    outputs = [Output(name, "children") for name in ("sentence", "numbers", "bill", "command", "yaml")]

    @app.callback(labels, inputs)
    def labelled(*values: Any) -> list[str]:
        point = chosen(values)
        return [_label(knob, point[knob.path]) for knob in explorer.knobs]

    @app.callback([*outputs, Output("steps", "figure")], inputs)
    def moved(*values: Any) -> list[Any]:
        point = chosen(values)
        answer, refusal = explorer.ask(point)
        told = [explorer.command(point), explorer.written(point)]
        if answer is None:
            return [f"No answer: {refusal}", [], "", *told, {"data": [], "layout": {"height": 320}}]
        rows = [
            html.Tr(
                [
                    html.Th(m.words, scope="row", style={"textAlign": "left"}),
                    html.Td(number_text(m.value, m.unit, m.key), id=f"n-{m.key}"),
                ]
            )
            for m in answer.metrics
            if m.key in _SHOWN
        ]
        bill = ", ".join(f"{name} {number_text(usd, 'USD/h')}" for name, usd in answer.cost.items() if usd)
        return [answer.sentence, rows, f"the bill: {bill}" if bill else "", *told, _steps(answer)]

    @app.callback(Output("played", "children"), Input("play", "n_clicks"), [State(i.component_id, "value") for i in inputs])
    def play(clicks: int | None, *values: Any) -> str:
        return explorer.played(chosen(values)) if clicks else ""

    return app


def _control(html: Any, dcc: Any, i: int, knob: Knob) -> Any:
    at = knob.values.index(knob.now)
    if not knob.slides:
        made = dcc.Dropdown(list(knob.values), knob.now, id=f"knob-{i}", clearable=False)
    else:
        few = {n: value for n, value in enumerate(knob.values) if n in (0, at, len(knob.values) - 1)}
        made = dcc.Slider(
            0, len(knob.values) - 1, step=1, value=at, marks=few, id=f"knob-{i}", included=False, allow_direct_input=False
        )
    return html.Div(
        [html.Label(_label(knob, knob.now), htmlFor=f"knob-{i}", id=f"label-{i}", title=knob.path), made],
        style={"margin": "0 0 .8em"},
    )


def _label(knob: Knob, value: str) -> str:
    return f"{knob.words}: {value or 'none'}"


#: Groups of parts, in colours that are told apart without red and green.
_COLOURS = {
    "attention": "#2b6a99",
    "feed-forward": "#7fb0d6",
    "experts": "#7d9f70",
    "communication": "#963c10",
    "head": "#6f4d84",
    "host": "#8a949b",
}


def _steps(answer: Evaluation) -> dict[str, Any]:
    """Each step as a bar of its parts."""
    data = []
    for pool in answer.pools:
        for step in pool.steps:
            for part in step.parts:
                said = f"{part.name}: {format_time(part.exposed_s)}, bound by {bound_words(part.bound)}"
                data.append(
                    {
                        "type": "bar",
                        "orientation": "h",
                        "name": part.name,
                        "marker": {"color": _COLOURS.get(part.group, "#8a949b"), "line": {"width": 1, "color": "white"}},
                        "x": [part.exposed_s * 1e3],
                        "y": [f"{pool.role}: {step.phase}"],
                        "hovertext": [said],
                        "hoverinfo": "text",
                    }
                )
    layout = {
        "barmode": "stack",
        "showlegend": False,
        "height": 320,
        "xaxis": {"title": {"text": "time, ms"}},
        "margin": {"l": 120, "t": 10},
    }
    return {"data": data, "layout": layout}
