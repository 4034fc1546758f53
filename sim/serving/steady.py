"""One worker in steady state: how many requests a second it finishes and how long each waits for a token.

*Decode*: every step gives each of ``batch`` sequences its accepted tokens. *Prefill*: prompts run in chunks. *Aggregated*:
both share the GPUs, so that a decoding request also waits for the prompts of those that join: each finished request lets one
in (`prompts`), and what a step's prompts add to it is added to every token (times the engine's share of that wait that a
decoding request sees). All fields may be arrays of candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ...hwmodels.backends import Backend, Constants
from ...hwmodels.specs import Cluster
from ..inputs.model import MoeModel
from ..step.part import Num
from ..step.step import Step, model_step
from ..step.worker import EVEN, Arrangement, Batch, Precision, Skew, for_prompts
from .prompts import AT_ONCE, RARE, Scheduling, held_back, joining
from .queue import AT_RANDOM, STEADY, ArrivalLaw, Burst, queue_wait


class Lengths(Protocol):
    """What the steady state needs of a workload (`inputs.serving.Workload` has it); arrays where requests differ by row."""

    @property
    def mean_input(self) -> Num: ...
    @property
    def mean_output(self) -> Num: ...
    @property
    def cached_input(self) -> Num: ...


@dataclass(frozen=True, slots=True)
class Speculation:
    """Multi-token prediction: ``drafts`` tokens a step, each accepted with ``acceptance`` if those before it were; or that of
    every place with a chance of its own, which counts those before it (shape [drafts])."""

    drafts: int = 0
    acceptance: float | tuple[float, ...] = 0.8

    @property
    def accepted(self) -> float:
        """Tokens that a step yields: ``1 + a + a^2 + ...`` (the verified token and the accepted drafts)."""
        if isinstance(self.acceptance, tuple):
            return 1.0 + sum(self.acceptance)
        return float(sum(self.acceptance**i for i in range(self.drafts + 1)))

    @property
    def rows(self) -> float:
        """Rows of a sequence in a step: the last token and the drafts to verify."""
        return 1.0 + self.drafts


NO_DRAFTS = Speculation()
#: A closed loop never fills a worker's time with prompts: the share beyond which the queueing formula no longer holds.
_MOST_BUSY = 0.9


@dataclass(frozen=True, slots=True)
class Setting:
    """What every worker of a deployment shares. ``together``: requests of equal length start at once. ``arrivals``: how evenly
    requests come that are given as a rate; a closed loop's come as others leave, after a ``burst``. ``pace``: what any step
    takes over the engine's constants, in the version that runs. ``holds_back``: groups that balance wait for each
    other's prompts.

    An engine that computes prompts first then keeps them in step: all prompts one after another, all outputs side by side, so
    that a sequence waits for half the others' prompts before its first token and for half after it. One that mixes chunks into
    decode steps spreads them out, as unequal lengths do.
    """

    model: MoeModel
    cluster: Cluster
    precision: Precision
    backend: Backend
    workload: Lengths
    speculation: Speculation = NO_DRAFTS
    skew: Skew = EVEN
    together: bool = False
    scheduling: Scheduling = AT_ONCE
    arrivals: ArrivalLaw = AT_RANDOM
    burst: Burst = STEADY
    pace: Num = 1.0
    holds_back: bool = True

    @property
    def engine(self) -> Constants:
        """The engine's own times on this hardware."""
        return self.backend.on(self.cluster.calibration)

    def step(self, arrangement: Arrangement, batch: Batch, drafts: float = 0.0) -> Step:
        """One pass of the model on one worker."""
        found = model_step(
            self.model, self.cluster, arrangement, batch, self.precision, self.engine, skew=self.skew, drafts=drafts
        )
        return found if np.ndim(self.pace) == 0 and self.pace == 1.0 else replace(found, seconds=found.seconds * self.pace)


@dataclass(frozen=True, slots=True)
class Rates:
    """One worker. ``requests_per_s`` it can finish; ``concurrency``: requests in flight in it; ``batch``: sequences that decode
    together in one attention group. ``tpot_s`` is 0 for a prefill worker; ``ttft_s`` is the worker's own part of the time to
    first token, queues of other workers not counted; ``prompt_s``: what one prompt takes of it; ``boarding_s``: the step under
    way that a prompt has to let pass, on average of those that come across one.
    """

    requests_per_s: Num
    tpot_s: Num
    ttft_s: Num
    concurrency: Num
    batch: Num
    prompt_s: Num
    boarding_s: Num = 0.0
    decode: Step | None = None
    prefill: Step | None = None


def decode_worker(setting: Setting, arrangement: Arrangement, batch: Num) -> Rates:
    """A worker that only decodes, ``batch`` sequences in each attention group, half-way through their outputs on average."""
    step = decode_step(setting, arrangement, batch)
    tpot = step.seconds / setting.speculation.accepted
    per_s = batch * arrangement.dp / (tpot * setting.workload.mean_output)
    return Rates(per_s, tpot, 0.0 * tpot, batch * arrangement.dp, batch, 0.0 * tpot, decode=step)


def prefill_worker(setting: Setting, arrangement: Arrangement, chunk_tokens: Num) -> Rates:
    """A worker that only computes prompts: steps of ``chunk_tokens`` in each attention group, full when it is saturated.

    ``ttft_s`` is of a prompt that finds the worker idle. Chunks of one prompt follow one another through the pipeline's stages.
    """
    workload, eager = setting.workload, for_prompts(arrangement)
    full = prompt_batch(workload, chunk_tokens, alone=False)
    before, last = chunk_seconds(workload, chunk_tokens, lambda chunk: setting.step(eager, chunk).seconds)
    packed = setting.step(eager, full)
    per_s = arrangement.dp * arrangement.pp * (full.prefill / new_tokens(workload)) / packed.seconds
    ttft = before / arrangement.pp + last + setting.engine.first_token
    prompt_s = arrangement.dp / per_s
    boarding = (before + last) / rounds(workload, chunk_tokens) / arrangement.pp
    return Rates(per_s, 0.0 * ttft, ttft, per_s * ttft, 0.0 * ttft, prompt_s, boarding, prefill=packed)


def aggregated_worker(
    setting: Setting,
    arrangement: Arrangement,
    batch: Num,
    chunk_tokens: Num,
    most: Num = np.inf,
    arrivals: ArrivalLaw | None = None,
) -> Rates:
    """A worker that does both, with ``batch`` requests in flight in each attention group, at most ``most`` of them decoding.

    A request waits for others, never for itself. In a closed loop (``arrivals`` None) it finds the worker's other requests
    there; of arrivals at random it finds as many as there are on average.
    """
    in_flight = np.asarray(batch, float)
    decoding = np.minimum(in_flight, most)
    output, engine, accepted = setting.workload.mean_output, setting.engine, setting.speculation.accepted
    waves = setting.together and not setting.backend.mixes_prompts
    spread = 1.0 if arrivals is None else arrivals.variation
    itself = 1.0 / arrangement.dp if arrivals is None or spread == 0.0 else 0.0
    met = np.maximum(in_flight - itself, 0.0) / np.maximum(in_flight, 1e-12)  # of those in flight, the share it meets
    for _ in range(2):
        step = decode_step(setting, arrangement, decoding)
        token_s = step.seconds / accepted
        others = decoding * met
        per_step = np.maximum(others * accepted / output, RARE)
        room = chunk_tokens / new_tokens(setting.workload)
        looked = engine.first_steps + setting.scheduling.steps(per_step, room)
        if setting.holds_back:
            looked = looked + held_back(per_step, arrangement.dp, arrangement.balance or setting.backend.balance)
        if waves:
            prompt, whole = _wave_prompt(setting, arrangement, decoding, chunk_tokens)
            tpot = token_s + 0.5 * others * prompt / output
            per_group = decoding / (output * token_s + np.maximum(decoding, 1.0) * prompt)
            waiting = whole + engine.first_token + looked * step.seconds
        else:
            added, whole = _joining_seconds(setting, arrangement, others, per_step, chunk_tokens, step)
            prompt = added / per_step
            tpot = token_s + engine.prompt_wait * added / accepted
            places: Num
            if setting.backend.mixes_prompts:  # a step's rows are places that prompts wait for
                places, service = np.maximum(1.0, np.floor(room)), whole
                busy = per_step * rounds(setting.workload, chunk_tokens) / places
            else:  # prompts have steps of their own, one after another
                places, service = 1.0, prompt
                busy = added / (accepted * tpot)
            # A request spends its own prompt's time, half a step before it is taken up if one runs, and others' prompts
            # without a token.
            running = np.minimum(in_flight * met * arrangement.dp, 1.0)
            looking = (0.5 * running + looked) * accepted * tpot
            queued = queue_wait(service, places, np.minimum(busy, _MOST_BUSY), ArrivalLaw(spread))
            waiting = whole + engine.first_token + looking + queued
            decoding = np.minimum(np.minimum(in_flight, most), in_flight * output * tpot / (output * tpot + waiting))
            per_group = decoding / (output * tpot)
    ttft = np.maximum(in_flight / per_group - output * tpot, waiting)
    per_s = per_group * arrangement.dp
    return Rates(per_s, tpot, ttft, in_flight * arrangement.dp, decoding, prompt, decode=step)


def decode_step(setting: Setting, arrangement: Arrangement, batch: Num) -> Step:
    """One decode step of ``batch`` sequences in each attention group, at least one in the fullest: a step without any is not
    run, and the others pad theirs to it. A pipeline holds one micro-batch in each stage."""
    drafts = float(setting.speculation.drafts)
    rows = Batch(np.maximum(np.asarray(batch, float) / arrangement.pp, 1.0), _held(setting.workload), speculated=1.0 + drafts)
    return setting.step(arrangement, rows, drafts)


def new_tokens(workload: Lengths) -> Num:
    """Mean prompt tokens that are not in the prefix cache, at least one."""
    return np.maximum(1.0, workload.mean_input * (1.0 - workload.cached_input))


def rounds(workload: Lengths, chunk_tokens: Num) -> Num:
    """Steps that one prompt's new tokens take."""
    return np.maximum(1.0, np.ceil(new_tokens(workload) / chunk_tokens))


def chunk_seconds(workload: Lengths, chunk_tokens: Num, seconds: Callable[[Batch], Num]) -> tuple[Num, Num]:
    """The steps of one lone prompt, each taking ``seconds``: all its full chunks but the last one, and that, what remains.

    The first has nothing before it but what is cached; those between are taken at their mean place in the prompt.
    """
    new, number = new_tokens(workload), rounds(workload, chunk_tokens)
    full = np.minimum(new, chunk_tokens)
    cached = workload.mean_input - new

    def chunk(tokens: Num, before: Num) -> Num:
        return seconds(Batch(0.0, 0.0, tokens, tokens, cached + before))

    earlier: Num = 0.0 * number
    if np.any(number > 1.0):
        earlier = np.where(number > 1.0, chunk(full, 0.0), 0.0)
    if np.any(number > 2.0):
        between = np.maximum(number - 2.0, 0.0)
        earlier = earlier + np.where(between > 0.0, between * chunk(full, (between + 1.0) / 2.0 * full), 0.0)
    return earlier, chunk(new - (number - 1.0) * full, (number - 1.0) * full)


def prompt_batch(workload: Lengths, chunk_tokens: Num, *, alone: bool) -> Batch:
    """A prefill step of one attention group: one prompt's chunk, or as many prompts as fill ``chunk_tokens``."""
    new = new_tokens(workload)
    chunk = np.minimum(new, chunk_tokens)
    before = workload.mean_input - new + (new - chunk) / 2.0
    filled = chunk if alone else np.maximum(chunk, np.asarray(chunk_tokens, float))
    return Batch(0.0, 0.0, prefill=filled, chunk=chunk, cached=before)


def _joining_seconds(
    setting: Setting, arrangement: Arrangement, decoding: Num, per_step: Num, chunk_tokens: Num, step: Step
) -> tuple[Num, Num]:
    """What the prompts that join in a decode step (``per_step`` for each attention group) add to it on average, and how long a
    prompt takes that runs.

    Attention groups step together, and all wait for the one with most prompts (`prompts.joining`). Prompts that meet share a
    step up to ``chunk_tokens`` rows of a group; one longer than that runs in chunks, each of which meets others.
    """
    workload, mixes = setting.workload, setting.backend.mixes_prompts
    eager, number = for_prompts(arrangement), rounds(workload, chunk_tokens)
    chunk = np.minimum(new_tokens(workload), chunk_tokens)
    room = np.maximum(1.0, np.floor(chunk_tokens / chunk))
    balance = arrangement.balance or setting.backend.balance
    met = joining(per_step * number, arrangement.dp, balance, room if mixes else np.inf)
    # A group's prompts of one step, at least one and no more than its rows hold; what is beyond runs in further steps.
    held = np.clip(met.fullest, 1.0, room)
    beside = np.where(np.asarray(decoding) < 0.5, 0.0, decoding) / arrangement.pp  # below a half mostly nobody
    decodes = beside * setting.speculation.rows if mixes else 0.0
    fullest = (decodes + held * chunk) / (decodes + met.mean / met.fullest * held * chunk)

    def seconds(own: Batch) -> Num:
        batch = replace(own, prefill=held * own.prefill, fullest=fullest)
        if mixes:
            batch = replace(batch, decode=beside, context=_held(workload), speculated=setting.speculation.rows)
        return setting.step(eager, batch).seconds

    earlier, last = chunk_seconds(workload, chunk_tokens, seconds)
    whole = earlier + last
    added = np.maximum(whole - number * step.seconds, 0.0) if mixes else whole
    return met.any_ * met.fullest / held * added / number, whole


def _wave_prompt(setting: Setting, arrangement: Arrangement, decoding: Num, chunk_tokens: Num) -> tuple[Num, Num]:
    """Seconds of a prompt where each group's run one after another, as many together as a step holds; and of its step."""
    eager = for_prompts(arrangement)
    chunk = np.minimum(new_tokens(setting.workload), chunk_tokens)
    held = np.clip(decoding, 1.0, np.maximum(1.0, np.floor(chunk_tokens / chunk)))

    def seconds(own: Batch) -> Num:
        return setting.step(eager, replace(own, prefill=held * own.prefill)).seconds

    earlier, last = chunk_seconds(setting.workload, chunk_tokens, seconds)
    return (earlier + last) / held, earlier + last


def _held(workload: Lengths) -> Num:
    """Cached tokens of a sequence half-way through its output."""
    return workload.mean_input + workload.mean_output / 2.0
