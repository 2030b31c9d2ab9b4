"""The module templates that come with mirrorfarm, by name."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from mirrorfarm.errors import Refused
from mirrorfarm.modules.faults import shown, suggestion


def templates() -> list[str]:
    """Return the names of all templates, sorted."""
    return sorted(
        entry.name
        for entry in files("mirrorfarm.modules").iterdir()
        if (entry / "conf" / "userconfig.xml").is_file()
    )


def template_files(name: str) -> dict[str, bytes]:
    """Return the files of a template, as `conf/…` and `bin/…`; raise Refused if there is none."""
    if name not in templates():
        raise Refused(f"there is no template {shown(name)!r}; {suggestion(name, templates())}")
    root = files("mirrorfarm.modules") / name
    return {**_files_of(root, "conf"), **_files_of(root, "bin")}


def _files_of(root: Traversable, folder: str) -> dict[str, bytes]:
    if not (root / folder).is_dir():
        return {}
    return {
        f"{folder}/{entry.name}": entry.read_bytes()
        for entry in sorted((root / folder).iterdir(), key=lambda entry: entry.name)
        if entry.is_file() and not entry.name.endswith((".pyc", "~"))
    }
