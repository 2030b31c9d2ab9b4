"""Rules of the project that a linter does not know."""

import ast
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

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


def faults_in(paths: list[str], look: Callable[[str], object]) -> dict[str, object]:
    """Return what `look` finds in the texts of files, by path, where it finds something."""
    seen = {path: look((ROOT / path).read_text(errors="replace")) for path in paths}
    return {path: fault for path, fault in seen.items() if fault}


def test_what_is_not_a_door_is_pure() -> None:
    assert not faults_in([path for path in CORE if not is_door(path)], impure)


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


def is_tested(path: str) -> bool:
    source = Path(path)
    mirrored = ROOT / "tests" / source.with_name(f"test_{source.name}")
    places = [place for start, place in TESTED_BY.items() if path.startswith(start)]
    elsewhere = bool(places) and (ROOT / places[-1]).exists()
    return mirrored.exists() or elsewhere or path in UNTESTED


def test_every_source_has_its_test() -> None:
    sources = [path for path in CORE if not path.endswith("__init__.py")]
    untested = [path for path in sources if not is_tested(path)]
    assert not untested, "write tests/FOLDER/test_NAME.py"


def test_files_are_short_enough_to_read() -> None:
    long = [path for path in PYTHON if path in LONG or path.startswith("tests/")]
    short = [path for path in PYTHON if path not in long]
    assert not faults_in(long, lambda text: lines_above(text, TEST_LINES_MAX))
    assert not faults_in(short, lambda text: lines_above(text, LINES_MAX))


def lines_above(text: str, bound: int) -> str:
    lines = len(text.splitlines())
    return f"{lines} lines, not {bound}" if lines > bound else ""


def test_functions_are_short_enough_to_read() -> None:
    sources = [path for path in PYTHON if not path.startswith("tests/")]
    short = [path for path in sources if path not in LONG_FUNCTIONS]
    assert not faults_in(short, lambda text: functions_longer_than(text, FUNCTION_LINES_MAX))
    assert not faults_in(list(LONG_FUNCTIONS), lambda text: functions_longer_than(text, 60))


def test_the_length_of_a_function_is_that_of_its_body() -> None:
    text = "def f(\n    a,\n):\n    '''One.\n\n    Two.\n    '''\n    b = 1\n    return b\n"
    assert functions_longer_than(text, 1) == ["f: 2 lines"]
    assert not functions_longer_than(text, 2)


def test_nothing_unpickles_or_calls_a_shell() -> None:
    assert not faults_in(PYTHON, UNSAFE.search)


def test_the_project_speaks_of_itself_alone() -> None:
    assert not faults_in(files(OWN, TEXTS), UNSPOKEN.search)


def test_live_tests_are_marked() -> None:
    live = [path for path in PYTHON if path.startswith("tests/live/") and "/test_" in path]
    assert not faults_in(live, lambda text: "pytest.mark.live" not in text)
