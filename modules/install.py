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

from mirrorfarm.errors import ConfigInvalid, Refused
from mirrorfarm.limits import MODULES_MAX, NAME_PATTERN, PACKAGE_BYTES_MAX
from mirrorfarm.modules import catalog
from mirrorfarm.modules.cluster import parse_cluster
from mirrorfarm.modules.disk import (
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
from mirrorfarm.modules.userconfig import parse_userconfig
from mirrorfarm.paths import Paths


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
    files = _source_files(source, name)
    make_folder(paths.modules)
    with _locked(paths):
        ids = dict(installed(paths))
        if name in ids and not force:
            reason = f"module {name} is installed already"
            raise Refused(f"{reason}; replace it with: mirrorfarm module install {name} --force")
        number = _choose_id(name, ids, module_id)
        folder = paths.module_etc(name)
        new = write_new_folder(folder, files)
        try:
            write_file(new / "id", f"{number}\n".encode())
            if folder.exists():
                _retire(paths, name)
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
        _retire(paths, name)
        sync_folder(paths.modules)


def installed(paths: Paths) -> list[tuple[str, int]]:
    """Return name and id of every installed module, by name."""
    return [(name, module_id(paths, name)) for name in _names(paths)]


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
    Raises ConfigInvalid with every fault; the active copy is then as before.
    """
    number = module_id(paths, name)
    path = paths.module_etc(name) / USERCONFIG
    text = read_file(path) if path.exists() else b""
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
    others = [load_module(paths, other) for other in configured(paths) if other != name]
    faults = unsuitable(module, others, paths=paths, file=str(path))
    if faults:
        raise ConfigInvalid(tuple(faults))
    make_folder(paths.module_lib(name))
    make_folder(_active(paths, name).parent)
    kept = {"sha256": hashlib.sha256(text).hexdigest(), "environment": used}
    write_file(_active(paths, name).with_name("environment.json"), json.dumps(kept).encode())
    write_file(_active(paths, name), text)
    return module


def load_module(paths: Paths, name: str) -> Module:
    """Return a module as it was last configured, whatever was edited since.

    Raises Refused if it is not installed or not configured here, ConfigInvalid if cluster.xml
    changed such that the module does not fit any more.
    """
    number = module_id(paths, name)
    path = _active(paths, name)
    cure = f"run: mirrorfarm module config {name}"
    try:
        text = read_file(path)
        kept = json.loads(read_file(path.with_name("environment.json")))
        intact = kept["sha256"] == hashlib.sha256(text).hexdigest()
        environment = {str(key): str(value) for key, value in kept["environment"].items()}
    except FileNotFoundError:
        raise Refused(f"module {name} is not configured on this node; {cure}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        intact, environment = False, {}
    if not intact:
        raise Refused(f"{path} was changed, or a configuration was interrupted; {cure}")
    return parse_userconfig(
        text,
        str(path),
        name=name,
        id=number,
        cluster=load_cluster(paths),
        environment=environment,
    )


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


def _retire(paths: Paths, name: str) -> None:
    """Keep the installed files as the previous version, instead of an earlier one."""
    previous = paths.modules / ".previous" / name
    make_folder(previous.parent)
    if previous.exists():
        shutil.rmtree(previous)
    paths.module_etc(name).rename(previous)


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
