"""How a message gets from a kernel to the NIC: who posts it, what a handing over costs, how many may be under way.

A transport is a datasheet of its own (``data/transports``), because the same kernels run over several: DeepEP's over NVSHMEM's
GPU-initiated one, or over a CPU proxy where the NIC or the fabric allows no other.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .specs import Datasheet, Nic
from .units import Seconds


class Transport(Datasheet):
    """``posts``: who writes work requests, threads of the GPU or ``threads`` CPU threads for each GPU. ``message_cost``: such a
    CPU thread's time per message (0 where the GPU posts: the NIC's own). ``hand_over``: what a one-way trip over the network
    takes beyond the NIC's latency. ``queues`` a GPU posts to, each with ``queue_depth`` messages under way at most. ``nics``:
    whether it posts to connections (verbs) or to AWS's EFA. ``reaches``: NIC -> share of its rate that many large writes to
    several nodes reach, where that was measured. ``lines`` of ``published_ep_2.csv`` that its numbers are
    from.
    """

    what: str
    posts: Literal["GPU", "CPU"]
    threads: Annotated[int, Field(ge=0, le=64)]
    message_cost: Seconds
    hand_over: Seconds
    queues: Annotated[int, Field(ge=1)]
    queue_depth: Annotated[int, Field(ge=1)]
    reaches: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    lines: tuple[int, ...] = ()
    nics: Literal["verbs", "efa"]

    def runs_on(self, nic: Nic) -> bool:
        """Whether it is made for that NIC."""
        return nic.verbs == (self.nics == "verbs")

    def messages_per_s(self, latency_s: float, most_queues: int | None = None) -> float:
        """Messages a second that one GPU posts at most, over trips of ``latency_s`` one way: by its threads, and by how many
        may be under way, on ``most_queues`` queues if there is a cap."""
        under_way = min(self.queues, most_queues or self.queues) * self.queue_depth / (2.0 * (latency_s + self.hand_over))
        return min(under_way, self.threads / self.message_cost) if self.message_cost else under_way
