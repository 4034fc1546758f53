"""The shapes of `published.yaml`: configs as objects, with their printed sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Published(NamedTuple):
    """``total``: billions of parameters of the language model. ``kv``: bytes a token. ``oracle``: transformers counts it
    too.
    """

    config: dict[str, Any]
    total: float
    kv: float
    oracle: bool = True


def _whole(value: Any) -> Any:
    """``value`` with its shortened lists written out."""
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "runs" in value:
        return [item for times, item in value["runs"] for _ in range(times)]
    if "times" in value:
        return [*value.get("head", ()), *value["of"] * value["times"], *value.get("tail", ())]
    return {key: _whole(item) for key, item in value.items()}


PUBLISHED: dict[str, Published] = {
    name: Published(_whole(each["config"]), each["total"], each["kv"], each.get("oracle", True))
    for name, each in yaml.safe_load(Path(__file__).with_name("published.yaml").read_text()).items()
}
