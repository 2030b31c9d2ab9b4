"""Set kernel parameters for as long as somebody needs them, then restore what was there.

Two modules of a node may need the same one. A ledger in the run folder (which a boot empties, as
it does the parameters) remembers the former value and who holds it; the last who lets go restores
it. A holder that was killed still holds: it lets go after its restart, or by its clean-up.
"""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mirrorfarm.errors import SystemUnsuitable

# What a module of a farm holds parameters for; its name follows.
ADDRESS, FILTER = "address of", "filter of"
_PARAMETERS = Path("/proc/sys")
_OF_INTERFACES = "net/ipv4/conf"


class Sysctls:
    """The parameters that one holder needs; `ledger` is a file that the node's holders share."""

    def __init__(self, ledger: Path, holder: str, parameters: Path = _PARAMETERS) -> None:
        self._ledger = ledger
        self._holder = holder
        self._parameters = parameters

    def hold(self, values: Mapping[str, str | tuple[str, ...]]) -> None:
        """Set each parameter, such as `net/ipv4/conf/eth0/arp_ignore`.

        Of several values the first is set, unless it has another of them: that stays.
        Raises SystemUnsuitable, which names it, if the kernel does not have or take one; what
        was set until then is held and must be released.
        """
        with self._locked() as entries:
            for name, wanted in values.items():
                former = self._read(name)
                accepted = (wanted,) if isinstance(wanted, str) else wanted
                value = former if former in accepted else accepted[0]
                entry = entries.setdefault(name, {"former": former, "set": value, "holders": []})
                number = _number(name)
                if entry.get("interface", number) != number:  # It was made anew.
                    entry["former"] = former
                entry.update(accepted=list(accepted), interface=number)
                if self._holder not in entry["holders"]:
                    entry["holders"].append(self._holder)
                self._save(entries)  # First: a crash must not lose the former value.
                self._write(name, value)

    def release(self) -> None:
        """Let go of everything; what nobody holds any more gets its former value back.

        A parameter that somebody else has changed meanwhile is left alone, and so is one that is
        gone with its interface.
        """
        with self._locked() as entries:
            for name, entry in list(entries.items()):
                if self._holder not in entry["holders"]:
                    continue
                entry["holders"].remove(self._holder)
                if not entry["holders"]:
                    del entries[name]
                    with contextlib.suppress(SystemUnsuitable):
                        if self._read(_now(name, entry)) == entry["set"]:
                            self._write(_now(name, entry), entry["former"])
            self._save(entries)

    def keep(self) -> bool:
        """Set again what others have changed since; return whether there was anything.

        Raises SystemUnsuitable if the kernel does not take it any more.
        """
        if not self._changed(self._load()):
            return False
        with self._locked() as entries:
            changed = self._changed(entries)
            for name in changed:
                self._write(_now(name, entries[name]), entries[name]["set"])
        return bool(changed)

    def _changed(self, entries: Mapping[str, Any]) -> list[str]:
        """Return what of its own has no value that is as good; one that is gone is left out."""
        found = []
        for name, entry in entries.items():
            if self._holder in entry["holders"]:
                with contextlib.suppress(SystemUnsuitable):
                    if self._read(_now(name, entry)) not in entry.get("accepted", [entry["set"]]):
                        found.append(name)
        return found

    @contextlib.contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        """Yield the entries of the ledger, which nobody else changes meanwhile."""
        self._ledger.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{self._ledger}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._load()
        finally:
            os.close(lock)

    def _load(self) -> dict[str, Any]:
        """Read the ledger; without a readable one nothing is held."""
        try:
            entries = json.loads(self._ledger.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}

    def _save(self, entries: dict[str, Any]) -> None:
        fresh = self._ledger.with_name(f"{self._ledger.name}.new")
        fresh.write_text(json.dumps(entries, indent=1, sort_keys=True), encoding="utf-8")
        fresh.replace(self._ledger)

    def _read(self, name: str) -> str:
        try:
            return (self._parameters / name).read_text(encoding="ascii").strip()
        except OSError as error:
            raise SystemUnsuitable(
                f"kernel parameter {name} cannot be read: {error.strerror}"
            ) from error

    def _write(self, name: str, value: str) -> None:
        try:
            (self._parameters / name).write_text(value, encoding="ascii")
        except OSError as error:
            raise SystemUnsuitable(
                f"kernel parameter {name} cannot be set to {value}: {error.strerror}; "
                "the farm filter needs root and a writable /proc/sys"
            ) from error


def _number(name: str) -> int:
    """Return the number of the interface whose parameter this is; 0: of none."""
    folder, interface, _ = name.rsplit("/", 2) if name.count("/") > 1 else ("", "", "")
    try:
        return socket.if_nametoindex(interface) if folder == _OF_INTERFACES else 0
    except OSError:
        return 0


def _now(name: str, entry: Mapping[str, Any]) -> str:
    """Return what a parameter is called now: its interface may have another name."""
    folder, _, parameter = name.rsplit("/", 2) if name.count("/") > 1 else ("", "", "")
    try:
        number = int(entry.get("interface", 0))
        return f"{folder}/{socket.if_indextoname(number)}/{parameter}" if number else name
    except OSError:
        return name
