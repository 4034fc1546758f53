"""When what the suite ran was released: months of the versions that its rows state, so that a version's pace is a dated one."""

from __future__ import annotations

from collections.abc import Mapping

from .recipes import UNSTATED

#: Version -> month: of the release on PyPI or on the engine's GitHub page (0.5.1-rc0.*, 0.7.0 and 0.8.1: NVIDIA Dynamo's, in
#: which TensorRT-LLM or SGLang came), of the suite's runs where none was stated.
RELEASED: Mapping[str, str] = {
    UNSTATED: "2025-10",
    "1.0.0rc3": "2025-07",
    "gpt-oss-dev": "2025-08",
    "1.1.0rc2.post2": "2025-09",
    "1.2.0rc2": "2025-11",
    "1.2.0rc2.post2": "2025-11",
    "1.2.0rc6.post2": "2025-12",
    "1.2.0rc6.post3": "2026-01",
    "1.3.0rc1": "2026-01",
    "0.5.1-rc0.pre1": "2025-11",
    "0.5.1-rc0.pre3": "2025-11",
    "0.7.0.post2": "2025-12",
    "0.8.1.post1": "2026-01",
    "0.8.1.post2": "2026-01",
    "0.8.1.post3": "2026-02",
    "0.5.1.post1": "2025-08",
    "0.5.5.post2": "2025-11",
    "0.5.6.post2": "2025-12",
    "0.5.8": "2026-01",
    "0.5.8.post1": "2026-02",
    "0.5.9": "2026-02",
    "0.12.0": "2025-12",
    "0.15.1": "2026-02",
    "0.18.0": "2026-03",
}
