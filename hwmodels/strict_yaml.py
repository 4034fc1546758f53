"""YAML as this project reads it: safe types only, text keys only, and a key given twice is an error."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from .errors import BadInput


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[object, int] = {}
        for key_node, _ in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str":
                raise BadInput(f"line {line}: keys must be text, got {key!r}; quote it")
            if key in seen:
                raise BadInput(f"line {line}: key {key!r} is given twice, first on line {seen[key]}")
            seen[key] = line
        return super().construct_mapping(node, deep)


def load(text: str, where: str) -> dict[str, Any]:
    """The mapping that ``text`` holds. Raises BadInput naming ``where`` and the line."""
    try:
        data = yaml.load(text, _StrictLoader)  # a SafeLoader: no object of any other kind can be built
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise BadInput(f"{where}: {line}not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise BadInput(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise BadInput(f"{where}: wanted keys and values, got {'nothing' if data is None else type(data).__name__}")
    return data
