"""A plan's answer in a sentence of at most thirty words, and a line for each of its pools."""

from __future__ import annotations

from ..answer.evaluation import Plan
from ..answer.words.number_text import digits, number_text


def headline(plan: Plan) -> str:
    """What it takes: GPUs, dollars, both times. The plan's own sentence where nothing meets the limits."""
    best = plan.best
    if best is None:
        return plan.sentence
    tpot, ttft = (number_text(best.metric(key).value, best.metric(key).unit, key) for key in ("tpot", "ttft"))
    price = "no price"
    if not best.unpriced:
        usd, mtok = (digits(best.metric(key).value) for key in ("usd_per_hour", "usd_per_mtok_output"))
        price = f"${usd} an hour, ${mtok} per million output tokens"
    gpus = f"{best.gpus} GPU{'s' if best.gpus != 1 else ''}"
    return f"{gpus} of {best.cluster} serve {best.model}: {price}, TPOT {tpot}, TTFT {ttft}."


def pool_lines(plan: Plan) -> tuple[str, ...]:
    """How the best deployment is arranged, a line a pool."""
    best = plan.best
    if best is None or best.serving is None:
        return ()
    batch = best.serving.decode.batch
    return tuple(
        f"{pool.role:<10} {pool.gpus} GPU{'s' if pool.gpus != 1 else ''}: {pool.arrangement}"
        + (f", batch {batch}" if pool.role != "prefill" and batch is not None else "")
        for pool in best.pools
    )
