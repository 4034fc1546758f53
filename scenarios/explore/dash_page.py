"""The page itself: Dash on 127.0.0.1. What moves asks the closed form; buttons play the point and copy it."""

from __future__ import annotations

import logging
import socket
from importlib.resources import files
from typing import Any

from ...hwmodels.errors import BadInput
from ..answer.words.number_text import number_text
from ..ask.scenario import Source
from . import pictures
from .explorer import REQUESTS, Explorer
from .knobs import Knob

ADDRESS = "127.0.0.1"
_SHOWN = (
    *("tpot", "ttft", "output_tokens_per_s_gpu", "usd_per_mtok_output", "usd_per_hour", "requests_per_s", "concurrency", "mfu"),
    "mbu",
)
#: Texts that can be copied, and what they are.
_COPIED = (("command", "the command that asks the same"), ("link", "a link to this page as it stands"))
_STILL = {"displayModeBar": False, "responsive": True}


def explore(source: Source, sets: list[str], port: int = 0) -> tuple[Any, int]:
    """The Dash app of a scenario, and a free port for it on this machine. Raises BadInput, also where Dash is not installed."""
    try:
        import dash  # noqa: F401
    except ModuleNotFoundError:
        raise BadInput("explore needs Dash: pip install 'epicycle[explore]'") from None
    explorer = Explorer(source, sets)
    at = _free_port(port)
    return app_of(explorer, f"http://{ADDRESS}:{at}/"), at


def serve(page: Any, port: int) -> None:
    """Answer the browser until Ctrl-C, without a line for every request."""
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    make_server(ADDRESS, port, page.server, threaded=True).serve_forever()


def _free_port(wanted: int) -> int:
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((ADDRESS, wanted))
        except OSError as error:
            raise BadInput(
                f"--port {wanted}: {error.strerror}: name another one, or leave it out for one that is free"
            ) from None
        port: int = found.getsockname()[1]
        return port


def app_of(explorer: Explorer, address: str) -> Any:
    """The Dash app of ``explorer``, whose page is found at ``address``."""
    from dash import Dash, Input, Output, State, ctx, dcc, html

    app = Dash("epicycle", title=f"{explorer.name} · epicycle explore", serve_locally=True, update_title="")
    look = files(__package__).joinpath("look.css").read_text(encoding="utf-8")
    app.index_string = app.index_string.replace("<html>", '<html lang="en">').replace(
        "{%css%}", f'{{%css%}}<meta name="viewport" content="width=device-width, initial-scale=1"><style>{look}</style>'
    )
    app.layout = _layout(explorer, html, dcc)
    places = range(len(explorer.knobs))
    values = [Input(f"knob-{i}", "value") for i in places]
    states = [State(f"knob-{i}", "value") for i in places]

    def chosen(given: tuple[Any, ...]) -> dict[str, str]:
        pairs = zip(explorer.knobs, given, strict=True)
        return {knob.path: knob.values[int(value)] if knob.slides else str(value or "") for knob, value in pairs}

    @app.callback([Output(f"knob-{i}", "value") for i in places], Input("address", "search"))
    def linked(query: str | None) -> list[Any]:
        point = explorer.linked(query or "")
        return [_position(knob, point.get(knob.path, knob.now)) for knob in explorer.knobs]

    @app.callback([Output(f"label-{i}", "children") for i in places], values)
    def labelled(*given: Any) -> list[Any]:
        point = chosen(given)
        return [_label(html, knob, point[knob.path]) for knob in explorer.knobs]

    texts = [Output(name, "children") for name in ("sentence", "numbers", "command", "yaml", "link")]

    @app.callback([*texts, Output("sentence", "className"), Output("link", "href"), Output("point", "data")], values)
    def moved(*given: Any) -> list[Any]:
        point = chosen(given)
        answer, refusal = explorer.ask(point)
        link = f"{address}{explorer.query(point)}"
        told = [explorer.command(point), explorer.written(point), link]
        if answer is None:
            return [f"No answer: {refusal}", [], *told, "refused", link, point]
        return [answer.sentence, _numbers(html, answer.metrics), *told, "", link, point]

    # The pictures follow the numbers, which need not wait for them.
    figures = [Output(name, "figure") for name in ("front", "steps", "bill")]

    @app.callback([*figures, Output("around", "children")], Input("point", "data"), prevent_initial_call=True)
    def drawn(point: dict[str, str]) -> list[Any]:
        answer, _ = explorer.ask(point)
        if answer is None:
            return [pictures.empty(), pictures.empty(), pictures.empty(60), ""]
        around = explorer.around(point)
        limit = next((limit.wanted for limit in answer.limits if limit.key == "tpot"), None)
        return [pictures.front(around, answer, limit), pictures.steps(answer), pictures.bill(answer), around.why]

    @app.callback(
        Output("played", "children"), [Input("play-requests", "n_clicks"), Input("play-exchange", "n_clicks"), *values], states
    )
    def play(_requests: int | None, _exchange: int | None, *given: Any) -> str:
        point = chosen(given[len(explorer.knobs) :])
        if ctx.triggered_id == "play-requests":
            return explorer.played_requests(point)
        return explorer.played_exchange(point) if ctx.triggered_id == "play-exchange" else ""

    return app


def _layout(explorer: Explorer, html: Any, dcc: Any) -> Any:
    def picture(name: str) -> Any:
        return dcc.Graph(id=name, config=_STILL, responsive=False)

    def copied(name: str, what: str, shown: Any) -> Any:
        return html.Div([shown, dcc.Clipboard(target_id=name, title=f"copy {what}", id=f"copy-{name}")], className="copy")

    answers = [
        html.P(id="sentence", **{"aria-live": "polite"}),
        html.Dl(id="numbers"),
        html.H2("What else there is"),
        html.P("The same engine, protocol and GPUs with other widths, batches and counts.", className="note"),
        html.P(id="around", className="note"),
        picture("front"),
        html.H2("Where a step's time goes"),
        picture("steps"),
        html.H2("What it costs"),
        picture("bill"),
        html.H2("Play it"),
        html.Div(
            [
                html.Button(f"{REQUESTS:,} requests, one by one", id="play-requests"),
                html.Button("the exchange, event by event", id="play-exchange"),
            ],
            className="buttons",
        ),
        dcc.Loading(html.P(id="played")),
        html.H2("The same again"),
        copied("command", _COPIED[0][1], html.Pre(id="command")),
        copied("link", _COPIED[1][1], html.A(id="link")),
        html.Details([html.Summary("as a scenario file"), copied("yaml", "the file", html.Pre(id="yaml"))]),
    ]
    controls = [_control(html, dcc, i, knob) for i, knob in enumerate(explorer.knobs)]
    columns = [html.Div(controls, className="controls"), html.Div(answers, className="answers")]
    return html.Main(
        [
            dcc.Location(id="address", refresh=False),
            dcc.Store(id="point"),
            html.H1(explorer.name),
            html.Div(columns, className="columns"),
        ]
    )


def _numbers(html: Any, metrics: Any) -> list[Any]:
    return [
        html.Div([html.Dt(m.words), html.Dd(number_text(m.value, m.unit, m.key), id=f"n-{m.key}")])
        for m in metrics
        if m.key in _SHOWN
    ]


def _control(html: Any, dcc: Any, i: int, knob: Knob) -> Any:
    name, at = f"knob-{i}", _position(knob, knob.now)
    if not knob.slides:
        choices = [{"label": value or "as it is", "value": value} for value in knob.values]
        made = dcc.Dropdown(choices, at, id=name, clearable=False)
    else:
        few = {n: value or "–" for n, value in enumerate(knob.values) if n in (0, len(knob.values) - 1)}
        made = dcc.Slider(
            0, len(knob.values) - 1, step=1, value=at, marks=few, id=name, included=False, allow_direct_input=False
        )
    label = html.Label(_label(html, knob, knob.now), htmlFor=name, id=f"label-{i}", title=knob.path)
    return html.Div([label, made], className="control")


def _position(knob: Knob, value: str) -> Any:
    return knob.values.index(value) if knob.slides else value


def _label(html: Any, knob: Knob, value: str) -> list[Any]:
    return [f"{knob.words}: ", html.B(value or ("none" if knob.path.startswith("slo") else "as it is"))]
