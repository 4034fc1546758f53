"""A step's parts in words and colours: the groups of kernels, what bounds them, and the parts too small to show."""

from __future__ import annotations

from collections.abc import Sequence

from ...answer.evaluation import Evaluation, PartTime, StepTime
from ..shell.quantity import said
from ..shell.words import legend

SHOWN_PARTS = 24  # beyond, the smallest are added up

# group -> (words, colour of page.css): communication copper, experts green, attention blue, as in the layer's report.
GROUPS: dict[str, tuple[str, str]] = {
    "attention": ("attention", "var(--nvlink)"),
    "feed-forward": ("dense feed-forward", "var(--nvlink-2)"),
    "experts": ("experts", "var(--sm)"),
    "communication": ("communication", "var(--nic)"),
    "head": ("norms and head", "var(--fabric)"),
    "host": ("host", "var(--wait)"),
}
# bound -> (short words, what it means, colour)
BOUNDS: dict[str, tuple[str, str, str]] = {
    "tensor": ("tensor cores", "tensor-core throughput", "var(--sm)"),
    "hbm": ("HBM", "HBM bandwidth", "var(--nvlink)"),
    "nvlink": ("NVLink", "NVLink bandwidth", "var(--nic-2)"),
    "nic": ("NIC", "NIC bandwidth and messages", "var(--nic)"),
    "pcie": ("PCIe", "the PCIe link between GPU and NIC, narrower than the NIC", "var(--nic-3)"),
    "launch": ("launches", "launching kernels and their fixed times", "var(--wait-2)"),
    "host": ("host", "the host's time between steps", "var(--wait)"),
    "fabric": ("fabric", "the uplinks of the fabric", "var(--fabric)"),
    "sm": ("SM copies", "SMs that copy rows for the communication kernels", "var(--sm-3)"),
    "latency": ("latency", "latency that no bandwidth shortens", "var(--wait-3)"),
}
PHASES = {"decode": "Decode step", "prefill": "Prefill step", "mixed": "Mixed step (prompts beside decodes)", "layer": "Layer"}


def group_words(group: str) -> str:
    return GROUPS[group][0] if group in GROUPS else group


def group_colour(group: str) -> str:
    return GROUPS[group][1] if group in GROUPS else "var(--op-other)"


def bound_name(bound: str) -> str:
    return BOUNDS[bound][0] if bound in BOUNDS else bound


def bound_words(bound: str) -> str:
    return BOUNDS[bound][1] if bound in BOUNDS else bound


def bound_colour(bound: str) -> str:
    return BOUNDS[bound][2] if bound in BOUNDS else "var(--op-other)"


def group_legend(steps: Sequence[StepTime]) -> str:
    """The legend of the groups that ``steps`` have, in the house's order."""
    seen = dict.fromkeys(p.group for step in steps for p in step.parts)
    ordered = [g for g in GROUPS if g in seen] + [g for g in seen if g not in GROUPS]
    return legend((group_words(g), group_colour(g)) for g in ordered)


def step_words(step: StepTime) -> str:
    """A step in a few words: ``"Decode step: 31.2 ms, 128 sequences and 128 tokens per GPU"``."""
    batch = f"batch {step.batch:,.0f}" if step.batch else ""
    tokens = f"{step.tokens_per_gpu:,.0f} tokens per GPU"
    return f"{PHASES.get(step.phase, step.phase)}: {said(step.seconds, 's')}, " + ", ".join(w for w in (batch, tokens) if w)


def listed(parts: Sequence[PartTime], limit: int = SHOWN_PARTS) -> list[PartTime]:
    """``parts`` in order; beyond ``limit`` the smallest are one part at the end."""
    if len(parts) <= limit:
        return list(parts)
    kept = set(sorted(range(len(parts)), key=lambda i: -parts[i].exposed_s)[: limit - 1])
    rest = [p for i, p in enumerate(parts) if i not in kept]
    total = [sum(getattr(p, field) for p in rest) for field in ("seconds", "exposed_s", "flops", "hbm_bytes", "wire_bytes")]
    largest = max(rest, key=lambda p: p.seconds)
    joined = PartTime(f"{len(rest)} smaller parts", largest.group, total[0], total[1], largest.bound, *total[2:])
    return [p for i, p in enumerate(parts) if i in kept] + [joined]


def part_says(part: PartTime) -> str:
    """One part in words, for hover and screen readers."""
    hidden = part.seconds - part.exposed_s
    beside = f", {said(hidden, 's')} more of it hidden behind other work" if hidden > 1e-3 * part.seconds else ""
    return f"{part.name}: {said(part.exposed_s, 's')}{beside}; bound by {bound_words(part.bound)}"


def whole_steps(evaluation: Evaluation) -> list[tuple[str, StepTime]]:
    """(id, step) of every pool's steps, with ids that are unique in a page."""
    return [(f"{p.role}-{i}-{j}", s) for i, p in enumerate(evaluation.pools) for j, s in enumerate(p.steps)]
