"""What a farm's process puts into the kernel, noted for the process that comes after it.

One that is killed, or must end before its stop has, leaves filter and addresses on purpose: the
filter drops. Its successor may have other addresses, or another filter, or be stopped before it
opens anything; therefore a note says what there is, written before it is made. It is in the run
folder, which a boot empties, as it does the kernel.
"""

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from mirrorfarm.actors.vip.addresses import Addresses
from mirrorfarm.errors import MirrorfarmError, SystemUnsuitable
from mirrorfarm.modules.settings import Module, VirtualAddress
from mirrorfarm.netfilter.choice import KINDS, remove_left
from mirrorfarm.netfilter.sysctls import ADDRESS, FILTER, Sysctls

_LOOPBACK = "lo"


class Note(msgspec.Struct, frozen=True):
    """What a process has put into the kernel. At which interfaces is looked for: names change."""

    addresses: tuple[str, ...]
    kind: str  # Of the filter; empty: not known.

    def __post_init__(self) -> None:
        """Raise ValueError if this cannot be."""
        for address in self.addresses:
            ipaddress.ip_address(address)
        if self.kind not in ("", *KINDS):
            raise ValueError(f"there is no filter {self.kind!r}")


class Leftovers:
    """The note of one farm module. To be used by one thread."""

    def __init__(self, module: Module, ledger: Path, log: Callable[[str, str], None]) -> None:
        """`ledger`: the node's file of held kernel parameters. `log`: level and text."""
        self._module = module.name
        self._ledger = ledger
        self._addresses = tuple(one.addr for one in module.farm.addresses)
        self._path = ledger.with_name(f"{module.name}.farm.json")
        self._note = self._read(log)

    def note(self, kind: str) -> None:
        """Say what is about to be put there; raise OSError if that cannot be written."""
        note = Note(self._addresses, kind)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._path.with_name(f"{self._path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(fresh, flags, 0o600), "wb") as stream:
            stream.write(msgspec.json.encode(note))
        fresh.replace(self._path)
        self._note = note

    def forget(self) -> None:
        """Nothing of what is noted is there any more."""
        self._path.unlink(missing_ok=True)
        self._note = None

    def remove_addresses(self) -> None:
        """Take off what is noted; raise SystemUnsuitable if an address stays: try again.

        Connections are not reset: an application that outlived its module's process has them
        still when the module is up again.
        """
        if self._note is None:
            return
        addresses = Addresses(tuple(VirtualAddress(one) for one in self._note.addresses))
        try:
            addresses.remove(_LOOPBACK)  # Elsewhere it may be the node's own by now.
        except OSError as error:
            raise SystemUnsuitable(f"a virtual address stays on this node: {error}") from error
        finally:
            addresses.close()

    def clear(self) -> None:
        """Remove all that is noted, the addresses first: without a filter every node would answer.

        Raises SystemUnsuitable or OSError if something stays; the note stays with it.
        """
        if self._note is None:
            return
        self.remove_addresses()
        kind = self._note.kind
        for one in (kind,) if kind else KINDS:
            try:
                remove_left(one, self._module)
            except (OSError, MirrorfarmError) as error:
                if kind:
                    raise SystemUnsuitable(
                        f"what an earlier process left of the filter {kind} stays: {error}"
                    ) from error
        for held in _parameters(self._ledger, self._module):
            held.release()
        self.forget()

    def _read(self, log: Callable[[str, str], None]) -> Note | None:
        """Return what there may be; None: nothing."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Note)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log(
                "C",
                f"{self._path} does not tell what an earlier process left: {error}; the addresses "
                "of the present configuration and filters of every kind are removed",
            )
            return Note(self._addresses, "")


def keep_parameters(ledger: Path, module: str) -> bool:
    """Set the kernel parameters of a module again that others changed; return whether any was.

    Raises SystemUnsuitable or OSError if that cannot be.
    """
    return any([held.keep() for held in _parameters(ledger, module)])


def _parameters(ledger: Path, module: str) -> list[Sysctls]:
    return [Sysctls(ledger, f"{holder} {module}") for holder in (ADDRESS, FILTER)]
