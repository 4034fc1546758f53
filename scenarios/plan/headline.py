"""A plan's answer in a sentence of at most thirty words, and a line for each of its pools."""

from __future__ import annotations

from ..answer.evaluation import Evaluation, Plan
from ..answer.words.number_text import digits, number_text


def headline(plan: Plan) -> str:
    """What it takes: GPUs, dollars, both times. The plan's own sentence where nothing meets the limits."""
    best = plan.best
    if best is None:
        return plan.sentence
    return f"{deployment_words(best)}."


def deployment_words(answer: Evaluation) -> str:
    """Its GPUs, what they cost and both times, as far as it has them."""
    said = {metric.key: metric for metric in answer.metrics}
    times = [f"{key.upper()} {number_text(said[key].value, said[key].unit, key)}" for key in ("tpot", "ttft") if key in said]
    price = "no price"
    if not answer.unpriced:
        out = "usd_per_mtok_output" if "usd_per_mtok_output" in said else "usd_per_mtok_input"
        named = (("usd_per_hour", "an hour"), (out, f"per million {out.rsplit('_', 1)[-1]} tokens"))
        price = ", ".join(f"${digits(said[key].value)} {of}" for key, of in named if key in said)
    gpus = f"{answer.gpus} GPU{'s' if answer.gpus != 1 else ''}"
    return f"{gpus} of {answer.cluster} serve {answer.model}: {', '.join(filter(None, (price, *times)))}"


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
