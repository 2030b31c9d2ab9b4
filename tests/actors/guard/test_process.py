import ast
import sys
from pathlib import Path

from mirrorfarm.actors.guard import process


def imported() -> set[str]:
    tree = ast.parse(Path(process.__file__).read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_guard_needs_the_standard_library_alone() -> None:
    assert imported() <= sys.stdlib_module_names


def test_addresses_of_both_families_are_packed_as_the_kernel_has_them() -> None:
    assert process.packed("198.18.0.1") == bytes([198, 18, 0, 1])
    assert process.packed("2001:db8::1")[-1] == 1
    assert len(process.packed("2001:db8::1")) == 16
