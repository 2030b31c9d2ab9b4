"""What is pure must also be the same on every machine: rules on the syntax of cores."""

import ast

import pytest

from tests.tidy.test_tidy import CORE, ROOT, faults_in, is_door

FORBIDDEN = {"hash", "id", "open", "input", "eval", "exec", "print", "vars", "globals"}
SETS = {"set", "frozenset"}
DECIDES = [path for path in CORE if path.startswith("actors/") and not is_door(path)]


def faults(text: str) -> list[str]:
    """Return what in a file could differ between two machines, or two runs."""
    found = []
    for node in ast.walk(ast.parse(text)):
        where = f"line {getattr(node, 'lineno', 0)}"
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN:
                found.append(f"{where}: {name}()")
            case ast.For(iter=source) | ast.comprehension(iter=source) if _is_set(source):
                found.append(f"{where}: iteration over a set")
            case ast.Constant(value=float()):
                found.append(f"{where}: a float")
            case ast.ExceptHandler(type=None):
                found.append(f"{where}: except without a class")
            case ast.ExceptHandler(type=ast.Name(id="Exception" | "BaseException")):
                found.append(f"{where}: except {node.type.id}")  # type: ignore[union-attr]
            case _:
                pass
    return found


def _is_set(node: ast.expr) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return isinstance(node, ast.Set | ast.SetComp) or (
        called and node.func.id in SETS  # type: ignore[attr-defined]
    )


def test_a_core_is_the_same_on_every_machine() -> None:
    assert not faults_in(DECIDES, faults)


@pytest.mark.parametrize(
    "text",
    [
        "for name in {1, 2}:\n    pass",
        "x = [n for n in set(names)]",
        "x = hash(name)",
        "x = id(name) % 2",
        "x = 0.5",
        "try:\n    pass\nexcept Exception:\n    pass",
        "try:\n    pass\nexcept:\n    pass",
    ],
)
def test_the_rule_sees_what_differs(text: str) -> None:
    assert faults(text)


def test_what_is_looked_at_are_the_cores() -> None:
    for name in ("heartbeat/core.py", "module/mirror/leading.py", "farm_filter/views.py"):
        assert f"actors/{name}" in DECIDES
    assert (ROOT / "actors").is_dir()
