"""JSON as epicycle writes it: the same bytes for the same data, one list of numbers a line, twelve significant digits."""

from __future__ import annotations

import json
from typing import Any


def json_text(value: Any) -> str:
    """``value`` (plain data) as JSON text that ends with a newline. Raises ValueError for a number that is not finite."""
    return _text(value, "") + "\n"


def rounded(value: float) -> float:
    """Twelve significant digits: what differs beyond them is the order of a sum, not a result."""
    return float(f"{value:.12g}")


def _text(value: Any, indent: str) -> str:
    inner = indent + " "
    if isinstance(value, dict) and value:
        body = [f"{inner}{json.dumps(key)}: {_text(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(body) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(inner + _text(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
