"""`epicycle simulate`: one MoE layer, event by event."""

from __future__ import annotations

from pathlib import Path

from ..ask.scenario import load_layer
from ..say.output import Outputs
from ..say.terminal import console as terminal
from .handing import again, say_written, write


def simulate(
    scenario: str, sets: list[str], seed: int | None, json: Path | None, html: Path | None, trace: Path | None
) -> None:
    """Play the layer, print it, and write what was asked for. Raises BadInput."""
    changes = [*sets, *([f"seed={seed}"] if seed is not None else ())]
    asked = load_layer(scenario, changes)
    asked.resolve()
    with Outputs((json, html, trace)) as outputs:
        from ..api import questions
        from ..say.terminal.layer import print_answer

        with terminal.busy(f"simulating {asked.name}"):
            told = questions.simulate(asked)
        answer = told.record
        if html is not None:
            outputs.put(html, lambda path: told.page(path, again("simulate", [scenario], html, set=changes)))
        if trace is not None:
            from ...sim.layer.chrome_trace import write_trace

            outputs.put(trace, lambda path: write_trace(path, answer))
        outputs.put(json, lambda path: write(path, told.to_json()))
    console = terminal.console(stderr=outputs.uses_stdout)
    print_answer(answer, console)
    say_written(console, report=html, trace=trace, JSON=json)
