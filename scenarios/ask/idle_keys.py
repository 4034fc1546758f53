"""Keys that were given and change no number of a deployment in closed form, by name and with the reason, for its notes."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from ...sim.ep.protocol import find_protocol
from ...sim.inputs.model import MoeModel
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion
from .search import Search

#: Keys of a search that say how experts lie and are reached.
_OF_EXPERTS = ("dp", "ep", "protocols", "redundant_experts", "overlap")
_EXPERTS = (
    *_OF_EXPERTS,
    *(f"prefill_{name}" for name in _OF_EXPERTS),
    "placement",
    "comm_sms",
    "experts",
    "payload",
    "confirm",
)
#: Keys of a search that speak of prefill workers.
_OF_PREFILL = tuple(name for name in Search.model_fields if name.startswith("prefill_"))


def idle_keys(question: ServingQuestion, serving: Serving) -> Iterator[str]:
    """A line for each reason."""
    if tails := [f"slo.{name}" for name in question.slo.tails]:
        yield f"not settled by means: {', '.join(tails)}: `epicycle serve` plays the requests one by one"
    if question.seed:
        yield f"not used: seed ({question.seed}), nothing is drawn in closed form"
    for key, reason in (*_of_deployment(serving), *(each for role in serving.workers for each in _of_worker(serving, role))):
        yield f"not used: {key}, {reason}"


def idle_search_keys(search: Search, model: MoeModel) -> Iterator[str]:
    """The same of a search, a line for each reason; what a file's deployment holds is named by its own answer."""
    reasons: list[tuple[tuple[str, ...], str]] = []
    if "disaggregated" not in search.modes:
        reasons.append((_OF_PREFILL, "no deployments with prefill workers are looked for (search.modes)"))
    if "aggregated" not in search.modes:
        reasons.append((("chunk_tokens",), "decode workers compute no prompts (search.modes)"))
    if not search.mtp:
        reasons.append((("acceptance",), "no tokens are drafted (search.mtp is 0)"))
    if not model.experts:
        reasons.append((_EXPERTS, f"{model.name} is dense, it has no experts"))
    told: set[str] = set()
    for names, reason in reasons:
        found = [name for name in names if name not in told and _given(search, name) and not search.is_held(name)]
        told.update(found)
        if found:
            yield f"not used: {', '.join(f'search.{name}' for name in found)}, {reason}"


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
