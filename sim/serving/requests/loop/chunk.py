"""What sources of arrivals hand over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some arrivals in the order of their times (`layout.ARRIVAL`; a conversation's later turns right behind its first), and
    the names of their prompts' blocks."""

    arrivals: Any
    names: NDArray[np.int64]


NO_NAMES = np.zeros(1, np.int64)
