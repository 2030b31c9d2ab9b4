"""Install modules, configure them, and read back what is configured.

Installed files (conf/, bin/, id) are for editing; what runs is the *active* copy of
userconfig.xml that `configure` makes once the file and this machine are found good.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mirrorfarm.errors import ConfigInvalid, MirrorfarmError, Refused
from mirrorfarm.limits import MODULES_MAX, NAME_PATTERN, PACKAGE_BYTES_MAX
from mirrorfarm.modules import catalog
from mirrorfarm.modules.cluster import parse_cluster
from mirrorfarm.modules.disk import (
    exchange,
    make_folder,
    read_file,
    read_module_files,
    sync_folder,
    write_file,
    write_new_folder,
)
from mirrorfarm.modules.faults import Faults, shown
from mirrorfarm.modules.package import USERCONFIG, check_files, pack, unpack
from mirrorfarm.modules.settings import Cluster, Module
from mirrorfarm.modules.suitability import unsuitable
from mirrorfarm.modules.userconfig import claims, parse_userconfig
from mirrorfarm.paths import Paths
from mirrorfarm.transport.address import AGENT


def install(
    paths: Paths,
    name: str,
    *,
    source: str | Path | bytes,
    module_id: int | None = None,
    force: bool = False,
) -> int:
    """Install a module and return its id: the one given, its present one, or the smallest free.

    `source` is the name of a template, a folder, a `.safe` or `.zip` file, or a package's bytes.
    `force` replaces an installed module, whose files are kept as the previous version.
    Raises Refused or ConfigInvalid; nothing is changed then.
    """
    _check_name(name)
    if name == AGENT:  # What is sent to it would be taken by the agent.
        raise Refused(f"{name} is the name of mirrorfarm's own process; choose another one")
    files = _source_files(source, name)
    make_folder(paths.modules)
    with _locked(paths):
        ids = dict(installed(paths))
        if name in ids and not force:
            reason = f"module {name} is installed already"
            raise Refused(f"{reason}; replace it with: mirrorfarm module install {name} --force")
        number = _choose_id(name, ids, module_id)
        folder = paths.module_etc(name)
        for left in paths.modules.glob(f".new-{name}-*"):  # Of an installation that was killed.
            shutil.rmtree(left)
        new = write_new_folder(folder, files)
        try:
            write_file(new / "id", f"{number}\n".encode())
            if folder.exists():
                # At no moment the module is without its files, nor those that it had without
                # their name: whoever clears up removes none of them.
                previous = _previous(paths, name)
                new.rename(previous)
                exchange(previous, folder)
            else:
                new.rename(folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        sync_folder(paths.modules)
    return number


def package(paths: Paths, name: str) -> bytes:
    """Return an installed module as a package, to be installed on another node."""
    module_id(paths, name)
    return pack(read_module_files(paths.module_etc(name)), name)


def uninstall(paths: Paths, name: str) -> None:
    """Remove an installed module; its files are kept as the previous version."""
    module_id(paths, name)
    if _active(paths, name).exists():
        reason = f"module {name} is configured"
        raise Refused(f"{reason}; stop it, then run: mirrorfarm module deconfig {name}")
    with _locked(paths):
        paths.module_etc(name).rename(_previous(paths, name))
        sync_folder(paths.modules)


def installed(paths: Paths) -> list[tuple[str, int]]:
    """Return name and id of every installed module, by name."""
    return [(name, module_id(paths, name)) for name in _names(paths) if _has_id(paths, name)]


def listed(paths: Paths) -> list[tuple[str, int, str]]:
    """Return name, id and fault of every module, by name; id 0: the fault says why.

    A folder that is neither installed nor configured, such as somebody's own, is no module.
    """
    rows: list[tuple[str, int, str]] = []
    for name in _names(paths):
        try:
            rows.append((name, module_id(paths, name), ""))
        except MirrorfarmError as error:
            if _has_id(paths, name) or _active(paths, name).exists():
                rows.append((name, 0, str(error)))
    return rows


def _has_id(paths: Paths, name: str) -> bool:
    return os.path.lexists(paths.module_etc(name) / "id")


def configured(paths: Paths) -> list[str]:
    """Return the names of the modules that have an active configuration, damaged or not."""
    return [name for name in _names(paths) if _active(paths, name).exists()]


def _names(paths: Paths) -> list[str]:
    if not paths.modules.is_dir():
        return []
    names = sorted(entry.name for entry in paths.modules.iterdir() if entry.is_dir())
    return [name for name in names if re.fullmatch(NAME_PATTERN, name)]


def module_id(paths: Paths, name: str) -> int:
    """Return the id of an installed module; raise Refused if it is not installed."""
    _check_name(name)
    try:
        text = read_file(paths.module_etc(name) / "id", 16).strip()
    except FileNotFoundError:
        reason = f"module {name} is not installed on this node"
        raise Refused(f"{reason}; run: mirrorfarm module install {name}") from None
    if not re.fullmatch(rb"[0-9]{1,4}", text) or not 1 <= int(text) <= MODULES_MAX:
        raise Refused(f"{paths.module_etc(name) / 'id'} is damaged; write the id of {name} there")
    return int(text)


def load_cluster(paths: Paths) -> Cluster:
    """Return the cluster of this node; raise ConfigInvalid if its file is absent or wrong."""
    try:
        text = read_file(paths.cluster_xml)
    except FileNotFoundError:
        reason = "absent; write the nodes and their addresses there, the same on every node"
        raise ConfigInvalid((f"{paths.cluster_xml}: cluster: {reason}",)) from None
    return parse_cluster(text, str(paths.cluster_xml))


def configure(
    paths: Paths,
    name: str,
    *,
    environment: Mapping[str, str] | None = None,
    notes: list[str] | None = None,
) -> Module:
    """Check a module against the cluster and this machine, then make it the active one.

    `environment` (default: this process's) gives values to macros that the file does not define;
    those used are kept with the active copy. `notes` receives what is read without effect.
    Raises ConfigInvalid with every fault, OSError; the active copy is then as before.
    """
    number = module_id(paths, name)
    if name == AGENT:  # Of a version that took it.
        reason = f"{name} is the name of mirrorfarm's own process, which takes what is sent to it"
        raise Refused(f"{reason}; install it by another name, and uninstall this one")
    path = paths.module_etc(name) / USERCONFIG
    if not path.exists():
        cure = "write it there, or take that of the previous version (modules/.previous)"
        raise ConfigInvalid((f"{path}: module: absent; {cure}",))
    text = read_file(path)
    used: dict[str, str] = {}
    module = parse_userconfig(
        text,
        str(path),
        name=name,
        id=number,
        cluster=load_cluster(paths),
        environment=os.environ if environment is None else environment,
        notes=notes,
        used=used,
    )
    others = _others(paths, name, notes if notes is not None else [])
    faults = unsuitable(module, others, paths=paths, file=str(path))
    if faults:
        raise ConfigInvalid(tuple(faults))
    make_folder(paths.module_lib(name))
    make_folder(_active(paths, name).parent)
    kept: dict[str, Any] = {"sha256": hashlib.sha256(text).hexdigest(), "environment": used}
    with contextlib.suppress(MirrorfarmError, OSError):  # Until the new text is there, as before.
        before, environment = _read_active(paths, name)
        digest = hashlib.sha256(before).hexdigest()
        kept["before"] = {"sha256": digest, "environment": environment}
    write_file(_active(paths, name).with_name("environment.json"), json.dumps(kept).encode())
    write_file(_active(paths, name), text)
    return module


def _others(paths: Paths, name: str, notes: list[str]) -> list[Module]:
    """Return the other modules of this node; `notes` receives those that cannot be read.

    Were they faults, no module could be configured after a change of cluster.xml that none fits.
    """
    others = []
    for other in configured(paths):
        if other != name:
            try:
                others.append(load_module(paths, other))
            except MirrorfarmError as error:
                reason = str(error).partition("\n")[0]
                notes.append(f"module {other} was not compared with it, configure it too: {reason}")
    return others


def load_module(paths: Paths, name: str) -> Module:
    """Return a module as it was last configured, whatever was edited since.

    Raises Refused if it is not installed or not configured here, ConfigInvalid if cluster.xml
    changed such that the module does not fit any more.
    """
    number = module_id(paths, name)
    text, environment = _read_active(paths, name)
    return parse_userconfig(
        text,
        str(_active(paths, name)),
        name=name,
        id=number,
        cluster=load_cluster(paths),
        environment=environment,
    )


def claimed(paths: Paths, name: str) -> tuple[list[str], list[str]]:
    """Return virtual addresses and replicated directories of a module as it is configured.

    Also where nothing can run by that: what began with it may be on this node still. Raises
    Refused if the name is none.
    """
    _check_name(name)
    try:
        return claims(*_read_active(paths, name))
    except MirrorfarmError:
        try:
            return claims(read_file(_active(paths, name)), {})
        except (MirrorfarmError, FileNotFoundError):
            return [], []


def changes_id(paths: Paths, name: str, wanted: int | None) -> bool:
    """Return whether an installation with an id, or any, gives an installed module another one."""
    return _has_id(paths, name) and wanted not in (None, module_id(paths, name))


def _read_active(paths: Paths, name: str) -> tuple[bytes, dict[str, str]]:
    """Return the active userconfig.xml and what its macros took from the environment."""
    path = _active(paths, name)
    cure = f"run: mirrorfarm module config {name}"
    try:
        text = read_file(path)
        kept = json.loads(read_file(path.with_name("environment.json")))
        digest = hashlib.sha256(text).hexdigest()
        for entry in (kept, kept.get("before", {})):
            if entry.get("sha256") == digest:
                return text, {str(key): str(value) for key, value in entry["environment"].items()}
    except FileNotFoundError:
        raise Refused(f"module {name} is not configured on this node; {cure}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise Refused(f"{path} was changed, or a configuration was interrupted; {cure}")


def deconfigure(paths: Paths, name: str) -> None:
    """Remove the active copy; the installed files and the durable state stay."""
    module_id(paths, name)
    folder = _active(paths, name).parent
    if not folder.exists():
        return
    _active(paths, name).unlink(missing_ok=True)  # First: without it nothing is configured.
    sync_folder(folder)
    shutil.rmtree(folder)


def _active(paths: Paths, name: str) -> Path:
    return paths.module_lib(name) / "active/userconfig.xml"


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise Refused(f"{shown(name)!r} cannot name a module: {NAME_PATTERN}")


def _choose_id(name: str, ids: dict[str, int], wanted: int | None) -> int:
    taken = {number: other for other, number in ids.items() if other != name}
    if wanted is None:
        wanted = ids.get(name)
    if wanted is None:
        wanted = next((n for n in range(1, MODULES_MAX + 1) if n not in taken), MODULES_MAX + 1)
    if not 1 <= wanted <= MODULES_MAX:
        raise Refused(f"{wanted} cannot be the id of {name}: 1 to {MODULES_MAX}")
    if wanted in taken:
        raise Refused(f"id {wanted} is that of module {taken[wanted]}; choose another, or none")
    return wanted


def _source_files(source: str | Path | bytes, name: str) -> dict[str, bytes]:
    """Return the files to install, checked."""
    if isinstance(source, bytes):
        return unpack(source, name)
    path = Path(source)
    if isinstance(source, str) and re.fullmatch(NAME_PATTERN, source):
        files, origin = catalog.template_files(source), source
    elif path.is_dir():
        files, origin = read_module_files(path), str(path)
    elif path.is_file():
        return unpack(read_file(path.resolve(), PACKAGE_BYTES_MAX), str(path))
    else:
        reason = f"{shown(str(source))} is neither a template, a folder nor a package"
        raise Refused(f"{reason}; templates: {', '.join(catalog.templates())}")
    faults = Faults(origin)
    check_files(files, faults)
    faults.raise_if_any()
    return files


def _previous(paths: Paths, name: str) -> Path:
    """Return where the previous version of a module is kept; an earlier one is removed."""
    previous = paths.modules / ".previous" / name
    make_folder(previous.parent)
    if previous.is_symlink():  # Somebody has the module's folder elsewhere.
        previous.unlink()
    elif previous.exists():
        shutil.rmtree(previous)
    return previous


@contextlib.contextmanager
def _locked(paths: Paths) -> Iterator[None]:
    """One installation at a time."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(paths.modules / ".lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
