"""What decides how a seed plays: the sources that a run may load, and one hash of them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import xxhash

_ROOT: Final = Path(__file__).parents[1]
_PACKAGE: Final = _ROOT.name
_PLAYS: Final = f"{_PACKAGE}.sim.running"


def sources() -> list[Path]:
    """Return what a run imports, and what that imports, and so on, in an order of its own.

    Doors, and what only tells of runs, is not among it: a better one plays no other runs.
    """
    found: dict[str, Path] = {}
    names = [_PLAYS]
    while names:
        name = names.pop()
        path = _path(name)
        if name in found or path is None:
            continue
        found[name] = path
        names += _imports(path)
        names.append(name.rpartition(".")[0])  # A package is loaded before what is in it.
    return [found[name] for name in sorted(found) if name != _PACKAGE]


def build_id() -> str:
    """Return a hash of everything that decides about a run."""
    digest = xxhash.xxh3_64()
    for path in sources():
        name = path.relative_to(_ROOT).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return f"{digest.intdigest():016x}"


def _path(name: str) -> Path | None:
    """Where a module is; None: it is no module, or none of ours."""
    package, _, rest = name.partition(".")
    if package != _PACKAGE:
        return None
    place = _ROOT.joinpath(*rest.split("."))
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _imports(path: Path) -> Iterator[str]:
    """Yield what a source names in imports, wherever they stand: modules, and what is in them."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
