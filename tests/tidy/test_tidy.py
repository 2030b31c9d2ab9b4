"""Rules of the project that a linter does not know."""

import ast
import re
from pathlib import Path, PurePosixPath

import pytest

from tests.tidy.doors import (
    DOORS,
    FOLDERS,
    FUNCTION_LINES_MAX,
    HARMLESS,
    LINES_MAX,
    LONG,
    LONG_FUNCTIONS,
    PROGRAMS,
    PURE,
    TEST_LINES_MAX,
    TESTED_BY,
    UNTESTED,
    WORLD,
)

ROOT = Path(__file__).parents[2]
OWN = ("mirrorfarm", "tests", "examples", "docs", *FOLDERS)
TEXTS = (".py", ".md", ".xml", ".sh", ".toml", ".cfg", ".service", "")
UNSPOKEN = re.compile("/work/(?:" + "shared|main|\\.library)")
UNSAFE = re.compile(r"\b(?:send|recv)_pyobj\b|\bimport pick" + r"le\b|\bshell=True\b")


def files(folders: tuple[str, ...], suffixes: tuple[str, ...]) -> list[str]:
    """Return the project's files, without what links and caches repeat."""
    found = []
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            name = path.relative_to(ROOT)
            linked = any((ROOT / parent).is_symlink() for parent in name.parents)
            hidden = any(part.startswith((".", "__pycache__")) for part in name.parts)
            if path.is_file() and not linked and not hidden and path.suffix in suffixes:
                found.append(name.as_posix())
    return sorted(found)


def is_program(path: str) -> bool:
    return any(PurePosixPath(path).match(pattern) for pattern in PROGRAMS)


def is_door(path: str) -> bool:
    within = any(path == door or (door.endswith("/") and path.startswith(door)) for door in DOORS)
    return within and path not in PURE


PYTHON = files(OWN, (".py",))
CORE = [path for path in files(FOLDERS, (".py",)) if not is_program(path)]


def imports_of(text: str) -> set[str]:
    """Return what a file imports: `time`, `pathlib.PurePath`, `mirrorfarm.actors.shell`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def impure(text: str) -> set[str]:
    """Return the imports that only a door may have."""
    doors = [f"mirrorfarm.{door.removesuffix('.py').replace('/', '.')}" for door in DOORS]
    pure = [f"mirrorfarm.{name.removesuffix('.py').replace('/', '.')}." for name in PURE]
    bad = set()
    for name in imports_of(text):
        to_door = any(name.startswith(door if door[-1] == "." else f"{door}.") for door in doors)
        if to_door and not any(name.startswith(own) for own in pure):
            bad.add(name)
        if name.split(".")[0] in WORLD and name not in HARMLESS:
            bad.add(name)
    return bad


def functions_longer_than(text: str, bound: int) -> list[str]:
    """Return the functions whose body, without the docstring, has more lines than that."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
        if lines > bound:
            found.append(f"{node.name}: {lines} lines")
    return found


@pytest.mark.parametrize("path", [path for path in CORE if not is_door(path)])
def test_what_is_not_a_door_is_pure(path: str) -> None:
    assert not impure((ROOT / path).read_text())


def test_the_rule_sees_clocks_sockets_and_doors() -> None:
    assert impure("import time\nfrom os import path") == {"time", "os.path"}
    assert impure("from mirrorfarm.actors.shell import Core") == {"mirrorfarm.actors.shell.Core"}
    assert not impure("from pathlib import PurePath\nfrom collections.abc import Iterator")


def test_every_door_in_the_list_exists() -> None:
    missing = [
        door
        for door in (*DOORS, *PURE, *UNTESTED, *LONG, *LONG_FUNCTIONS)
        if not (ROOT / door).exists()
    ]
    assert not missing, "remove them from tests/tidy/doors.py"


@pytest.mark.parametrize("path", [path for path in CORE if not path.endswith("__init__.py")])
def test_every_source_has_its_test(path: str) -> None:
    source = Path(path)
    mirrored = ROOT / "tests" / source.with_name(f"test_{source.name}")
    places = [place for start, place in TESTED_BY.items() if path.startswith(start)]
    elsewhere = bool(places) and (ROOT / places[-1]).exists()
    assert mirrored.exists() or elsewhere or path in UNTESTED, f"write {mirrored}"


@pytest.mark.parametrize("path", PYTHON)
def test_files_are_short_enough_to_read(path: str) -> None:
    lines = len((ROOT / path).read_text().splitlines())
    bound = TEST_LINES_MAX if path in LONG or path.startswith("tests/") else LINES_MAX
    assert lines <= bound


@pytest.mark.parametrize("path", [path for path in PYTHON if not path.startswith("tests/")])
def test_functions_are_short_enough_to_read(path: str) -> None:
    bound = 60 if path in LONG_FUNCTIONS else FUNCTION_LINES_MAX
    assert not functions_longer_than((ROOT / path).read_text(), bound)


def test_the_length_of_a_function_is_that_of_its_body() -> None:
    text = "def f(\n    a,\n):\n    '''One.\n\n    Two.\n    '''\n    b = 1\n    return b\n"
    assert functions_longer_than(text, 1) == ["f: 2 lines"]
    assert not functions_longer_than(text, 2)


@pytest.mark.parametrize("path", PYTHON)
def test_nothing_unpickles_or_calls_a_shell(path: str) -> None:
    assert not UNSAFE.search((ROOT / path).read_text())


@pytest.mark.parametrize("path", files(OWN, TEXTS))
def test_the_project_speaks_of_itself_alone(path: str) -> None:
    assert not UNSPOKEN.search((ROOT / path).read_text(errors="replace"))


@pytest.mark.parametrize(
    "path", [path for path in PYTHON if path.startswith("tests/live/") and "/test_" in path]
)
def test_live_tests_are_marked(path: str) -> None:
    assert "pytest.mark.live" in (ROOT / path).read_text()
