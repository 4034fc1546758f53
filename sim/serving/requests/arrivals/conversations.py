"""Conversations: turns that follow their predecessors' ends after a pause of the user or of a tool, and sub-agents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ....inputs.requests import Conversations
from ..loop.chunk import NO_NAMES, Chunk
from .made_up import blank

#: Turns of one conversation, its sub-agents' included, that the loop takes in at once.
MOST_TURNS = 500


def conversations(roots: Iterator[Chunk], law: Conversations, block_tokens: int, longest: int, seed: int) -> Iterator[Chunk]:
    """Every arrival of ``roots`` becomes a conversation that ends where ``longest`` tokens of context would be passed."""
    rng = np.random.default_rng([seed, 3])
    made = session = 0
    for chunk in roots:
        rows: list[tuple[int, ...]] = []
        for root in chunk.arrivals:
            turns = int(rng.geometric(1.0 / law.turns)) if law.spread_turns else law.turns
            session = _conversation(rows, rng, law, root, min(turns, MOST_TURNS), block_tokens, longest, session)
        a = blank(len(rows))
        for i, field in enumerate(_FIELDS):
            a[field] = [row[i] for row in rows]
        a["id"] = np.arange(made, made + len(rows))
        a["group"] = 0
        made += len(rows)
        yield Chunk(a, NO_NAMES)


_FIELDS = ("at", "input", "output", "session", "turn", "after", "after_n", "waits", "gap", "tool", "blocks", "shared")


def _conversation(
    rows: list[tuple[int, ...]],
    rng: np.random.Generator,
    law: Conversations,
    root: Any,
    turns: int,
    block: int,
    longest: int,
    session: int,
) -> int:
    """Append the turns of one conversation; the number of the next session."""
    held, waits, gap, shared, own = int(root["input"]), 0, 0, law.shared_prefix // block, session
    session += 1
    room = MOST_TURNS
    for turn in range(turns):
        output = law.later_output if turn and law.later_output is not None else int(root["output"])
        last = turn == turns - 1 or held + output + law.added_tokens + output > longest or room < 2 + law.agents_each
        tool = 0 if last else int(rng.random() < law.tools)
        agents = law.agents_each if tool and rng.random() < law.agents else 0
        after_n = 0 if last else max(agents, 1)
        rows.append((int(root["at"]) if turn == 0 else 0, held, output, own, turn, int(not last), after_n, waits, gap, tool))
        rows[-1] += (held // block, shared)
        room -= 1 + agents
        if last:
            return session
        pause = _pause(rng, law, bool(tool))
        for agent in range(agents):
            # Each agent starts when the tool is called; the last of them to end lets the conversation go on.
            first = int(root["input"])
            rows.append((0, first, output, session, 0, agents - agent, 1, 1, round(1e9), 0, first // block, shared))
            session += 1
        waits, gap = max(agents, 1), pause
        held += output + law.added_tokens
    return session


def _pause(rng: np.random.Generator, law: Conversations, tool: bool) -> int:
    if tool:
        sigma = law.tool_sigma
        return round(law.tool_time * float(np.exp(rng.normal(-0.5 * sigma * sigma, sigma))) * 1e12)
    return round(float(rng.exponential(law.think)) * 1e12) if law.think > 0 else 0
