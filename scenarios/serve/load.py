"""How many requests arrive, how long they are, and when: from the workload, or from a trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.requests import Requests
from ...sim.inputs.serving import Serving
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.requests.arrivals.conversations import conversations
from ...sim.serving.requests.arrivals.made_up import Lengths, Wave, arrivals
from ...sim.serving.requests.arrivals.trace_file import Format, Scale, format_of, trace_chunks
from ...sim.serving.requests.loop.chunk import Chunk
from ..answer.evaluate import evaluate

_UNIT_TOKENS = {"vllm": 16, "trtllm": 32, "sglang": 64}
COUNT = 10_000
PS = 1e12
DEFAULTS = Requests()


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives: ``rate`` a second on average, or ``clients`` of a closed loop. ``count``: requests, None if only the
    duration is known; ``input`` and ``output``: mean tokens; ``longest``: context of the longest request."""

    rate: float | None
    clients: int
    count: int | None
    duration_s: float | None
    input: float
    output: float
    longest: int
    said: str
    trace: Format | None = None


def chunks_of(question: ServingQuestion, load: Load) -> Iterator[Chunk]:
    """The arrivals of ``load``, from the first."""
    asked, workload = question.requests or DEFAULTS, question.workload
    if asked.trace is not None:
        yield from trace_chunks(asked.trace.file, _scale(asked), load.count, question.model.max_context)
        return
    lengths = Lengths(
        workload.input_tokens if not asked.input_sigma else workload.mean_input,
        workload.output_tokens if not asked.output_sigma else workload.mean_output,
        workload.length_spread,
        asked.input_sigma,
        asked.output_sigma,
        cached=0.0 if asked.conversations else workload.cached_input,
    )
    wave = Wave(asked.wave.amplitude, asked.wave.period, asked.wave.peak) if asked.wave else None
    law = "closed" if load.clients else {"even": "even", "bursty": "gamma"}.get(workload.arrivals or "poisson", "poisson")
    per = asked.conversations.turns if asked.conversations else 1
    roots = arrivals(
        law,  # type: ignore[arg-type]
        (load.rate or 1.0) / per,
        lengths,
        question.seed,
        count=None if load.count is None else max(1, load.count // per),
        duration_s=load.duration_s,
        cv=workload.variation**0.5,
        wave=wave,
    )
    if asked.conversations is None:
        yield from roots
    else:
        _, block = blocks(asked, question.serving or Serving(), load)
        yield from conversations(roots, asked.conversations, block, load.longest, question.seed)


def load_of(question: ServingQuestion) -> Load:
    """How much arrives. With neither rate nor concurrency, as many are in flight as the closed form allows."""
    asked, workload = question.requests or DEFAULTS, question.workload
    if asked.trace is not None:
        return _traced(question, asked)
    count = asked.count if asked.count is not None or asked.duration is not None else COUNT
    mean_in, mean_out = workload.mean_input, workload.mean_output
    longest = round(max(workload.input_tokens, 16 * mean_in if asked.input_sigma else 0)) + round(
        max(workload.output_tokens, 16 * mean_out if asked.output_sigma else 0)
    )
    if asked.conversations is not None:
        talk = asked.conversations
        turns = talk.turns * (4 if talk.spread_turns else 1)
        later = mean_out if talk.later_output is None else talk.later_output
        longest += (turns - 1) * (max(workload.output_tokens, round(later)) + talk.added_tokens)
        mean_in += 0.5 * (talk.turns - 1) * (later + talk.added_tokens) + (talk.turns - 1) / talk.turns * (mean_out - later)
        mean_out = (mean_out + (talk.turns - 1) * later) / talk.turns
    if question.model.max_context is not None:
        longest = min(longest, question.model.max_context)
    if workload.rate is not None:
        law = workload.arrivals or "poisson"
        return Load(
            workload.rate, 0, count, asked.duration, mean_in, mean_out, longest, f"{law} arrivals, {workload.rate:.4g}/s"
        )
    clients = workload.concurrency
    if clients is None:
        plain = replace(question, requests=None, faults=None)
        clients = max(1, round(evaluate(plain).metric("concurrency").value))
    if asked.wave is not None:
        raise Unanswerable(
            ("requests", "wave"), "a wave goes with workload.rate: a closed loop's requests come as others leave"
        )
    return Load(None, clients, count, asked.duration, mean_in, mean_out, longest, f"a closed loop of {clients:,}")


def _traced(question: ServingQuestion, asked: Requests) -> Load:
    """One pass over the trace, for its means and its longest request."""
    assert asked.trace is not None
    for name in ("rate", "concurrency"):
        if getattr(question.workload, name) is not None:
            raise Unanswerable(
                ("workload", name), f"requests.trace has its own arrivals: remove workload.{name}, or scale it with rate_scale"
            )
    total = count = longest = 0
    out, last = 0, 0
    for chunk in trace_chunks(asked.trace.file, _scale(asked), asked.count, question.model.max_context):
        a = chunk.arrivals
        if asked.duration is not None:
            a = a[a["at"] < asked.duration * PS]
        count += a.size
        total += int(a["input"].sum())
        out += int(a["output"].sum())
        if a.size:
            longest, last = max(longest, int((a["input"] + a["output"]).max())), int(a["at"][-1])
        if a.size < chunk.arrivals.size:
            break
    if count == 0:
        raise Unanswerable(("requests", "duration"), f"no request of {asked.trace.file} arrives in {asked.duration:g} s")
    seconds = max(last / PS, 1e-9)
    kind = format_of(asked.trace.file)
    said = f"{asked.trace.file.name} ({kind.name}), {count:,} requests in {seconds:,.0f} s"
    return Load(count / seconds, 0, count, None, total / count, max(1.0, out / count), longest, said, kind)


def _scale(asked: Requests) -> Scale:
    trace = asked.trace
    return Scale(trace.rate_scale, trace.input_scale, trace.output_scale) if trace else Scale()


def blocks(asked: Requests, serving: Serving, load: Load) -> tuple[int, int]:
    """Tokens of a unit of KV cache, and of a named block of prompts: the trace's, else a unit."""
    unit = asked.scheduler.block_tokens or _UNIT_TOKENS[serving.backend]
    named = load.trace.block_tokens if load.trace else 0
    if named == 0:
        return unit, unit
    unit = min(unit, named)
    if named % unit:
        raise Unanswerable(
            ("requests", "scheduler", "block_tokens"),
            f"block_tokens ({unit}) must divide the {named} tokens of the trace's blocks: use {_UNIT_TOKENS['vllm']}",
        )
    return unit, named
