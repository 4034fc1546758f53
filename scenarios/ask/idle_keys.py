"""Keys that were given and change no number of a deployment in closed form, by name and with the reason, for its notes."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from ...sim.ep.protocol import find_protocol
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion


def idle_keys(question: ServingQuestion, serving: Serving) -> Iterator[str]:
    """A line for each reason."""
    if tails := [f"slo.{name}" for name in question.slo.tails]:
        yield f"not settled by means: {', '.join(tails)}: `epicycle serve` plays the requests one by one"
    for key, reason in (*_of_deployment(serving), *(each for role in serving.workers for each in _of_worker(serving, role))):
        yield f"not used: {key}, {reason}"


def _of_deployment(serving: Serving) -> Iterator[tuple[str, str]]:
    if _given(serving, "acceptance") and not serving.mtp:
        yield "deployment.acceptance", "no tokens are drafted (mtp is 0)"
    if _given(serving, "wait_fill") and not serving.wait_steps:
        yield "deployment.wait_fill", "prompts wait for no others (wait_steps is 0)"


def _of_worker(serving: Serving, role: str) -> Iterator[tuple[str, str]]:
    worker, at = serving.workers[role], f"deployment.{role}"
    if _given(worker, "comm_sms") and not _on_comm_sms(worker, role == "prefill" or serving.mode == "aggregated"):
        yield f"{at}.comm_sms", f"{worker.protocol} keeps no SMs" if worker.dp > 1 else "nothing is exchanged (dp is 1)"
    if _given(worker, "transport") and worker.dp == 1:
        yield f"{at}.transport", "nothing is exchanged (dp is 1)"
    if role == "decode" and serving.mode in ("disaggregated", "decode"):
        if _given(worker, "chunk_tokens"):
            yield f"{at}.chunk_tokens", "these workers compute no prompts"
        if _given(worker, "balance"):
            yield f"{at}.balance", "these workers compute no prompts"
    if role == "prefill":
        for name, reason in (
            ("batch", "these workers decode nothing"),
            ("cuda_graphs", "prompts run kernel by kernel"),
            ("balance", "a prefill pool's groups are taken as evenly filled"),
        ):
            if _given(worker, name):
                yield f"{at}.{name}", reason


def _on_comm_sms(worker: Worker, prompts: bool) -> bool:
    """Whether an exchange of the worker runs on SMs that are set: its own, or that which its prompts are left to."""
    protocol = find_protocol(worker.protocol)
    names = [worker.protocol, *([protocol.prompts_by] if prompts and protocol.prompts_by else [])]
    return worker.dp > 1 and any(find_protocol(name).on_comm_sms for name in names)


def _given(record: BaseModel, name: str) -> bool:
    """Whether the key says something other than its default."""
    return name in record.model_fields_set and getattr(record, name) != type(record).model_fields[name].default
