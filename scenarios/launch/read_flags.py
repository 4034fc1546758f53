"""Reads an engine's command-line flags from its wheel, without installing or importing it: ``python -m … read_flags WHEEL``.

vLLM takes its flags from the fields of configuration classes, SGLang from annotated fields, Dynamo from calls with
``flag_name``. All three are read from the source's syntax tree: names, aliases, the type as it is written, and the choices.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Flag = dict[str, Any]
Flags = dict[str, Flag]

#: Files of each wheel that define flags; a name that ends in "/" stands for all below it.
_SOURCES = {
    "vllm": ("vllm/engine/arg_utils.py", "vllm/entrypoints/"),
    "sglang": ("sglang/srt/server_args.py", "sglang/srt/arg_groups/fields/"),
    "ai_dynamo": (
        "dynamo/vllm/backend_args.py",
        "dynamo/sglang/backend_args.py",
        "dynamo/trtllm/backend_args.py",
        "dynamo/frontend/frontend_args.py",
        "dynamo/common/configuration/groups/",
    ),
}
#: Where the names stand that those files refer to.
_NAMES = {
    "vllm": ("vllm/config/",),
    "sglang": ("sglang/srt/arg_groups/choices.py",),
    "ai_dynamo": ("dynamo/common/constants.py",),
}


def read_wheel(wheel: Path) -> dict[str, Any]:
    """The record of ``wheel``: engine, version, file, sha256 and flags by name. Raises ValueError for another package's."""
    package, version = wheel.name.split("-")[:2]
    if package not in _SOURCES:
        raise ValueError(f"{wheel.name}: wanted a wheel of {', '.join(_SOURCES)}, got one of {package}")
    with zipfile.ZipFile(wheel) as archive:
        trees = dict(_trees(archive, _SOURCES[package]))
        named = _named(tree for _, tree in _trees(archive, (*_NAMES[package], *_SOURCES[package])))
    flags: Flags = {}
    for path, tree in trees.items():
        for name, flag in _flags_of(tree, named):
            known = flags.setdefault(name, flag)
            if package == "ai_dynamo" and path.endswith("backend_args.py"):  # a wrapper's own; the others are all wrappers'
                known.setdefault("of", []).append(path.split("/")[1])
    return {
        "engine": {"ai_dynamo": "dynamo"}.get(package, package),
        "version": version,
        "wheel": wheel.name,
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "flags": dict(sorted(flags.items())),
    }


def record_text(record: dict[str, Any]) -> str:
    """``record`` as JSON, a flag a line."""
    head = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items() if key != "flags"]
    flags = [f"  {json.dumps(name)}: {json.dumps(flag)}" for name, flag in record["flags"].items()]
    return "{\n" + ",\n".join(head) + ',\n "flags": {\n' + ",\n".join(flags) + "\n }\n}\n"


def _trees(archive: zipfile.ZipFile, wanted: Iterable[str]) -> Iterator[tuple[str, ast.Module]]:
    for name in archive.namelist():
        if name.endswith(".py") and any(name == each or (each.endswith("/") and name.startswith(each)) for each in wanted):
            yield name, ast.parse(archive.read(name))


def _named(trees: Iterable[ast.Module]) -> dict[str, ast.expr]:
    """What is assigned to each name of a module, and to each annotated field of a class ("Class.field": its annotation)."""
    found: dict[str, ast.expr] = {}
    for tree in trees:
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                found[node.target.id] = node.value
            elif isinstance(node, ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                        found[f"{node.name}.{item.target.id}"] = item.annotation
    return found


def _flags_of(tree: ast.Module, named: dict[str, ast.expr]) -> Iterator[tuple[str, Flag]]:
    configs = {}  # name of a dictionary of keyword arguments -> the class whose fields it describes
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _called(node.value) == "get_kwargs":
            target, made_of = node.targets[0], node.value.args[0]
            if isinstance(target, ast.Name) and isinstance(made_of, ast.Name):
                configs[target.id] = made_of.id
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in ("add_argument", "add_negatable_bool_argument"):
            yield from _from_call(node, configs, named)
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.annotation, ast.Subscript):
                    yield from _from_field(item, named)


def _from_call(call: ast.Call, configs: dict[str, str], named: dict[str, ast.expr]) -> Iterator[tuple[str, Flag]]:
    """A flag that a call to a parser adds."""
    given = {word.arg: word.value for word in call.keywords if word.arg is not None}
    written = [*call.args, *([given["flag_name"]] if "flag_name" in given else [])]
    values = [arg.value for arg in written if isinstance(arg, ast.Constant)]
    names = [value for value in values if isinstance(value, str) and value.startswith("-")]
    if not any(name.startswith("--") for name in names):
        return
    main = next(name for name in names if name.startswith("--"))
    kind: ast.expr | None = given.get("type") or given.get("arg_type")
    flag: Flag = {}
    for word in call.keywords:  # **parallel_kwargs["tensor_parallel_size"]
        for value in ast.walk(word.value) if word.arg is None else ():
            if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name) and isinstance(value.slice, ast.Constant):
                kind = named.get(f"{configs.get(value.value.id)}.{value.slice.value!s}", kind)
    action = ast.unparse(given["action"]).strip("'\"") if "action" in given else ""
    no_value = isinstance(nargs := given.get("nargs"), ast.Constant) and nargs.value == 0
    switch = no_value or "true" in action.lower() or action == "store_false" or "Boolean" in action
    switch = switch or _called(call) == "add_negatable_bool_argument"
    flag["type"] = "bool" if switch else ast.unparse(kind) if kind is not None else "str"
    choices = _choices(given.get("choices") or kind, named)
    yield main, _finished(flag, [name for name in names if name != main], choices)


def _from_field(item: ast.AnnAssign, named: dict[str, ast.expr]) -> Iterator[tuple[str, Flag]]:
    """A flag that an annotated field ``name: A[type, Arg(...)]`` stands for."""
    note = item.annotation
    if not (isinstance(note, ast.Subscript) and isinstance(note.value, ast.Name) and note.value.id in ("A", "Annotated")):
        return
    if not (isinstance(note.slice, ast.Tuple) and isinstance(item.target, ast.Name)):
        return
    kind, *rest = note.slice.elts
    given: dict[str | None, ast.expr] = {}
    for each in rest:
        if isinstance(each, ast.Call) and _called(each) == "Arg":
            given |= {word.arg: word.value for word in each.keywords}
    if "no_cli" in given:
        return
    main = "--" + item.target.id.replace("_", "-")
    if "cli_name" in given:
        main = str(ast.literal_eval(given["cli_name"]))
    aliases = [str(name) for name in ast.literal_eval(given["aliases"])] if "aliases" in given else []
    written = ast.unparse(kind)
    flag: Flag = {"type": "bool" if written in ("bool", "Optional[bool]") else written}
    yield main, _finished(flag, aliases, _choices(given.get("choices") or kind, named))


def _finished(flag: Flag, aliases: list[str], choices: list[str]) -> Flag:
    if aliases:
        flag["aliases"] = aliases
    if choices:
        flag["choices"] = choices
        flag.pop("type")
    return flag


def _choices(node: ast.expr | None, named: dict[str, ast.expr]) -> list[str]:
    """The values that ``node`` allows: a list, a ``Literal``, a union with one, or a name of one of those."""
    if isinstance(node, ast.Name):
        return _choices(named.get(node.id), {key: value for key, value in named.items() if key != node.id})
    if isinstance(node, ast.List | ast.Tuple):
        parts = [[str(each.value)] if isinstance(each, ast.Constant) else _choices(each, named) for each in node.elts]
        return [word for part in parts for word in part] if all(parts) else []
    if isinstance(node, ast.BinOp):
        return [*_choices(node.left, named), *_choices(node.right, named)]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            return _choices(ast.List(elts=list(inner), ctx=ast.Load()), named)
        if node.value.id in ("Optional", "Annotated", "Union"):
            return [word for each in inner for word in _choices(each, named)]
    return []


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""


if __name__ == "__main__":
    for given in sys.argv[1:]:
        read = read_wheel(Path(given))
        made = Path(__file__).parent / "flags" / f"{read['engine']}.json"
        made.write_text(record_text(read), encoding="utf-8")
        print(f"{made}: {len(read['flags'])} flags of {read['engine']} {read['version']}")
