"""Every list of rooms, packages and data files says what the tree has; and the command stays light."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
SETUP = TOOLS["setuptools"]
#: The rooms, as the tree has them: everything below is held against this.
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
HEAVY = ("torch", "triton", "plotly", "numba", "scipy", "networkx", "simpy", "numpy", "pydantic", "rich.console")


def _folders() -> list[Path]:
    return sorted(path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("__init__.py"))


def test_every_package_is_listed_and_every_listed_one_exists() -> None:
    assert sorted(SETUP["packages"]) == sorted(["epicycle", *(".".join(["epicycle", *f.parts]) for f in _folders())])


def test_every_listed_pattern_of_data_finds_a_file() -> None:
    for package, patterns in SETUP["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        assert [pattern for pattern in patterns if not any(folder.glob(pattern))] == [], package


def test_every_list_of_rooms_is_that_of_the_tree() -> None:
    makefile = re.search(r"^LIBRARY := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    layers = next(one for one in TOOLS["importlinter"]["contracts"] if one["type"] == "layers")["layers"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lists = {
        "Makefile, LIBRARY": makefile[1].split() if makefile else [],
        "pyproject.toml, banned-api": TOOLS["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"],
        "pyproject.toml, layers": [room for layer in layers for room in re.split(r" *[|:] *", layer) if room != "cli"],
        "README.md, The house": re.findall(r"^([a-z]+)/ ", readme[readme.index("## The house") :], re.MULTILINE),
    }
    assert {name: sorted(rooms) for name, rooms in lists.items()} == dict.fromkeys(lists, ROOMS)


def test_every_folder_with_code_is_a_package() -> None:
    stray = {p.parent.relative_to(ROOT) for room in ROOMS for p in (ROOT / room).rglob("*.py")} - set(_folders())
    assert not stray, f"without an __init__.py they vanish from the wheel: {stray}"


def test_every_data_file_is_listed() -> None:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.is_dir() or path.suffix == ".py" or "__pycache__" in path.parts:
                continue
            assert _is_package_data(path.relative_to(ROOT)), f"{path} is in no package-data list of pyproject.toml"


def _is_package_data(path: Path) -> bool:
    for package, patterns in SETUP["package-data"].items():
        folder = Path(*package.split(".")[1:])
        if path.is_relative_to(folder):
            inside = path.relative_to(folder).as_posix()
            if any(fnmatch(inside, p) and ("**" in p or inside.count("/") == p.count("/")) for p in patterns):
                return True
    return False


def test_only_the_entry_points_lie_in_the_root() -> None:
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}


def test_the_tests_are_no_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_importing_the_command_loads_nothing_heavy() -> None:
    code = f"import sys, epicycle.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [["catalog"], ["simulate", "ep-anatomy"]])
def test_a_command_loads_neither_torch_nor_plotly(command: list[str]) -> None:
    code = (
        "import sys\nfrom epicycle.cli import main\n"
        f"sys.argv = ['epicycle', *{command!r}]\n"
        "try: main()\nexcept SystemExit as stopped: assert not stopped.code, stopped.code\n"
        "print([m for m in ('torch', 'triton', 'plotly') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


BARE = """
import sys, typer
app = typer.Typer(add_completion=False)
app.callback()(lambda: None)
app.command(name="one")(lambda: None)
app.command(name="two")(lambda: None)
"""
HELP = "sys.argv = ['epicycle', '--help']\ntry: run()\nexcept SystemExit: pass\nprint(*sys.modules)"


def test_help_loads_the_command_and_what_a_bare_typer_program_loads() -> None:
    """`make bench-engine` times a start; here is counted what it imports beyond Typer and the standard library."""

    def modules(code: str) -> set[str]:
        done = subprocess.run([sys.executable, "-c", code + HELP], capture_output=True, text=True, check=True)
        return set(done.stdout.splitlines()[-1].split())

    more = modules("import sys\nfrom epicycle.cli import main as run\n") - modules(BARE + "run = app\n")
    ours = {name for name in more if name.split(".")[0] == "epicycle"}
    assert ours == {"epicycle", "epicycle.cli"}
    foreign = {name for name in more - ours if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name.split(".")[0] for name in foreign} <= {"typer", "click", "rich", "typing_extensions"}


def test_the_oldest_allowed_releases_are_read_from_one_place() -> None:
    """`make test-oldest` runs with what .ci/oldest reads from pyproject.toml: every dependency with its floor."""
    oldest = runpy.run_path(str(ROOT / ".ci" / "oldest"), run_name="oldest")["floors"]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    assert [f"{name}>={version}" for name, version in oldest(text).items()] == [one.split(";")[0].strip() for one in wanted]
    with pytest.raises(ValueError, match="'typer' states no floor"):
        oldest(text.replace('"typer>=0.19"', '"typer"'))
