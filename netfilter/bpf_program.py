"""The program of the farm filter in the kernel: load it, attach it, write its tables, count.

The program is `farm.bpf.o`, made from `farm.bpf.c`; loading it needs no compiler. Until the
lease is renewed for the first time, and when it runs out, everything to the virtual addresses
is dropped; the program stays attached when its process dies, so that this goes on. To be used
by one thread.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.limits import (
    BUCKETS,
    LEASE_TICK_NS,
    VIRTUAL_ADDRESSES_MAX,
    Nanoseconds,
)
from mirrorfarm.netfilter import elf, tables
from mirrorfarm.netfilter.bpf_system import (
    NAME_BYTES_MAX,
    TCX_IN,
    TCX_OUT,
    Map,
    Program,
    Run,
    attached,
    numbers,
    refusal,
)
from mirrorfarm.netfilter.rules import Rules, State

OBJECT = Path(__file__).with_name("farm.bpf.o")

_CLSACT = "clsact"
_PARENTS = {TCX_IN: 0xFFFF_FFF2, TCX_OUT: 0xFFFF_FFF3}
_NO_TCX = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)


@dataclass(slots=True)
class Tcx:
    """Where the program is attached."""

    program: Program
    index: int
    hook: int

    def close(self) -> None:
        """Detach; nothing if the interface is gone."""
        with contextlib.suppress(OSError):
            self.program.detach(self.index, self.hook)

    def is_there(self) -> bool:
        """Return whether it is attached still; an interface that is gone lacks nothing."""
        own, _ = self.program.identity()
        try:
            return own in numbers(self.index, self.hook)
        except OSError as error:
            return error.errno == errno.ENODEV

    def replace_others(self, name: str) -> None:
        """Detach what has the same name: left by a process that was killed."""
        own, _ = self.program.identity()
        _detach_tcx(self.index, self.hook, name, but=own)


@dataclass(slots=True)
class Clsact:
    """Where the program is attached on kernels before 6.6."""

    index: int
    hook: int
    handle: int
    made_queue: bool  # The queueing discipline is ours, to be removed with the last filter.

    def close(self) -> None:
        """Detach; nothing if the interface is gone."""
        with contextlib.suppress(NetlinkError), IPRoute() as route:
            self._remove(route, self.handle)
            others = [
                entry
                for parent in _PARENTS.values()
                for entry in route.get_filters(self.index, parent=parent)
            ]
            if self.made_queue and not others:
                route.tc("del", _CLSACT, self.index)

    def is_there(self) -> bool:
        """Return whether it is attached still; an interface that is gone lacks nothing."""
        with IPRoute() as route:
            try:
                return self.handle in [found for found, _ in _filters(route, self.index, self.hook)]
            except NetlinkError as error:
                return bool(error.code == errno.ENODEV)

    def replace_others(self, name: str) -> None:
        """Remove filters of the same name: left by a process that was killed."""
        with IPRoute() as route:
            for entry in _filters(route, self.index, self.hook):
                if entry[1] == name and entry[0] != self.handle:
                    self._remove(route, entry[0])
                    self.made_queue = True

    def _remove(self, route: Any, handle: int) -> None:
        parent = _PARENTS[self.hook]
        route.tc("del-filter", "bpf", self.index, parent=parent, **_place(handle))


def _place(handle: int) -> dict[str, Any]:
    return {"handle": handle, "prio": handle, "protocol": 3}  # ETH_P_ALL


def _filters(route: Any, index: int, hook: int) -> list[tuple[int, str]]:
    """Return priority and name of the filters of one direction."""
    found = []
    for entry in route.get_filters(index, parent=_PARENTS[hook]):
        options = entry.get_attr("TCA_OPTIONS")
        name = options.get_attr("TCA_BPF_NAME") if hasattr(options, "get_attr") else None
        found.append((entry["info"] >> 16, str(name or "")))
    return found


def detach_all(name: str) -> None:
    """Detach every program of this name, at whatever interface, whoever attached it."""
    for index, _ in socket.if_nameindex():
        for hook in (TCX_IN, TCX_OUT):
            try:
                _detach_tcx(index, hook, name)
            except OSError as error:
                if error.errno not in (*_NO_TCX, errno.ENODEV):
                    raise
    try:
        _detach_clsact(name)
    except NetlinkError as error:
        raise OSError(error.code, str(error.args[-1])) from error


def _detach_tcx(index: int, hook: int, name: str, but: int = 0) -> None:
    """Detach programs of this name, except for the one with the number `but`."""
    for program in attached(index, hook):
        with contextlib.closing(program):
            number, other_name = program.identity()
            if other_name == name and number != but:
                program.detach(index, hook)


def _detach_clsact(name: str) -> None:
    with IPRoute() as route:
        queues = [q["index"] for q in route.get_qdiscs() if q.get_attr("TCA_KIND") == _CLSACT]
        found = [
            Clsact(index, hook, handle, made_queue=True)
            for index in queues
            for hook in _PARENTS
            for handle, other in _filters(route, index, hook)
            if other == name
        ]
    for place in found:
        place.close()


@dataclass(slots=True)
class FarmProgram:
    """One program, with its own tables. Every table is empty and every bucket FOREIGN at first."""

    name: str
    maps: dict[str, Map]
    program: Program  # For what comes in.
    out: Program  # For what goes out.
    places: list[Tcx | Clsact] = field(default_factory=list)

    @classmethod
    def load(cls, name: str = "mirrorfarm", path: Path = OBJECT) -> "FarmProgram":
        """Load the program and make its maps; raise SystemUnsuitable with the reason.

        `name` has at most 15 characters. At an interface a program replaces its namesakes.
        """
        assert len(name) <= NAME_BYTES_MAX, "the kernel would cut it"
        try:
            data = path.read_bytes()
            made, out = elf.read(data), elf.read(data, "out")
        except OSError as error:
            raise SystemUnsuitable(f"{path}: {error.strerror}; install mirrorfarm again") from error
        except ValueError as error:
            raise SystemUnsuitable(
                f"{path}: {error}; install mirrorfarm again, or run `make bpf`"
            ) from error
        with contextlib.ExitStack() as undo:
            maps: dict[str, Map] = {}
            try:
                for definition in made.maps:
                    maps[definition.name] = Map(definition)
                    undo.callback(maps[definition.name].close)
                descriptors = {map_name: map_.number for map_name, map_ in maps.items()}
                first = Program.load(name, made.linked(descriptors), made.license)
                undo.callback(first.close)
                second = Program.load(name, out.linked(descriptors), out.license)
            except OSError as error:
                raise SystemUnsuitable(refusal(error)) from error
            undo.pop_all()
            return cls(name, maps, first, second)

    def attach(self, interface: str, *, old: bool = False) -> str:
        """Filter what comes in at an interface; return how: `tcx`, or on older kernels `clsact`.

        What a killed process of the same name left there is replaced without a gap. It stays
        until it is detached. Raises SystemUnsuitable.
        """
        try:
            index = socket.if_nametoindex(interface)
        except OSError as error:
            raise SystemUnsuitable(
                f"there is no interface {interface}; `ip link` lists them"
            ) from error
        try:
            for program, hook in ((self.program, TCX_IN), (self.out, TCX_OUT)):
                tcx = None if old else self._attach_tcx(program, index, hook)
                place = tcx or self._attach_clsact(program, index, hook)
                self.places.append(place)
                place.replace_others(self.name)
        except NetlinkError as error:
            raise SystemUnsuitable(refusal(OSError(error.code, str(error.args[-1])))) from error
        except OSError as error:
            raise SystemUnsuitable(f"{interface}: {refusal(error)}") from error
        return "tcx" if isinstance(self.places[-1], Tcx) else _CLSACT

    def is_attached(self) -> bool:
        """Return whether it is wherever it was attached: others may have detached it."""
        return all(place.is_there() for place in self.places)

    def detach(self) -> None:
        """Filter nothing any more: what comes in reaches the node as if there were no farm."""
        while self.places:
            self.places.pop().close()

    def close(self) -> None:
        """Detach and let go of everything."""
        self.detach()
        for thing in (self.program, self.out, *self.maps.values()):
            thing.close()

    # --- what the shell writes ---------------------------------------------------------------

    def set_address(
        self, address: bytes, rules: Rules, seed: int, *, directed: bool = False
    ) -> None:
        """Filter traffic to a virtual address; raise ValueError if there is no room for it.

        The old rules hold until the new ones are written whole.
        """
        value = tables.address_value(address, rules, seed, directed=directed)
        key, keys = tables.address_key(address), self._directory()
        if len([old for old in keys if old not in (key, tables.FREE)]) == VIRTUAL_ADDRESSES_MAX:
            raise ValueError(f"there are more than {VIRTUAL_ADDRESSES_MAX} virtual addresses")
        place = keys.index(tables.FREE) if tables.FREE in keys else len(keys)
        self.maps["addresses"].put(place.to_bytes(4, "little"), value)
        keys = [tables.FREE if old == key else old for old in keys]
        keys[place:] = [key, *keys[place + 1 :]]
        self.maps["directory"].put(bytes(4), tables.directory_value(keys))

    def remove_address(self, address: bytes) -> None:
        """Leave traffic to an address alone."""
        gone = tables.address_key(address)
        keys = [tables.FREE if key == gone else key for key in self._directory()]
        self.maps["directory"].put(bytes(4), tables.directory_value(keys))

    def set_buckets(self, group: int, states: Sequence[State], peers: Sequence[int] = ()) -> None:
        """Write all buckets of a group by one call. It is not one instant: close, then open."""
        values = tables.bucket_values(bytes(states), bytes(peers or BUCKETS))
        self.maps["buckets"].put_columns(b"".join(tables.bucket_keys(group)), b"".join(values))

    def change_buckets(
        self, group: int, buckets: Iterable[int], state: State, peer: int = 0
    ) -> None:
        """Write one state into some buckets of a group, by one call."""
        value = tables.bucket_value(state, peer)
        self.change((tables.bucket_key(group, bucket), value) for bucket in buckets)

    def change(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Write buckets, as `tables.py` packs them, by one call."""
        self.maps["buckets"].put_many(entries)

    def set_peers(self, own: bytes, peers: Sequence[bytes]) -> None:
        """Name the hardware addresses by which frames are relayed; the first peer is number 1.

        They are for virtual addresses that are set as directed. Empty: that peer relays nothing.
        """
        assert len(peers) < tables.EVERY_PEER, "more peers than a cluster has nodes"
        numbered = [own, *peers, *[b""] * (tables.EVERY_PEER - 1 - len(peers))]
        former = [self.maps["peers"].get(i.to_bytes(4, "little")) for i in range(len(numbered))]
        for mac in filter(None, peers):
            self.maps["relays"].put(tables.relay_key(mac), bytes(4))
        self.maps["peers"].put_many(
            (i.to_bytes(4, "little"), tables.peer_value(mac)) for i, mac in enumerate(numbered)
        )
        for value in former[1:]:
            if value is not None and value[:6] not in peers:
                self.maps["relays"].remove(tables.relay_key(value[:6]))

    def renew(self, deadline_ns: Nanoseconds) -> None:
        """Let the program accept until the boot clock reads `deadline_ns`; 0: not at all.

        A node that was frozen beyond its deadline must not renew before it has joined again.
        """
        before = max(0, deadline_ns - LEASE_TICK_NS)
        self.maps["lease"].put(bytes(4), struct.pack("=Q16x", before))

    def deadline(self) -> Nanoseconds:
        """Return the deadline last written; 0 before the first."""
        before = int.from_bytes(self._element("lease")[:8], "little")
        return before + LEASE_TICK_NS if before else 0

    # --- what it reads -----------------------------------------------------------------------

    def verdicts(self) -> dict[str, int]:
        """Return how many packets met each verdict since the program was loaded."""
        return dict(zip(tables.VERDICTS, self._counters("verdicts", 0, 16), strict=False))

    def accepted(self, group: int) -> tuple[int, ...]:
        """Return how many packets of each bucket were accepted here."""
        return self._counters("accepted", group * BUCKETS, BUCKETS)

    def states(self, group: int) -> tuple[State, ...]:
        """Return the state of each bucket as the program sees it."""
        raw = self.maps["buckets"].get_array(group * BUCKETS, BUCKETS)
        return tuple(State(word & 0xFF) for word in struct.unpack(f"={BUCKETS}I", raw))

    def run(self, frame: bytes, repeat: int = 1) -> Run:
        """Give a frame to the program, without any interface."""
        return self.program.run(frame, repeat)

    def run_out(self, frame: bytes, repeat: int = 1) -> Run:
        """Give a frame that goes out to the program of that direction."""
        return self.out.run(frame, repeat)

    @staticmethod
    def _attach_tcx(program: Program, index: int, hook: int) -> Tcx | None:
        """Attach; None if this kernel attaches to the queueing discipline clsact only."""
        try:
            program.attach(index, hook)
        except OSError as error:
            if error.errno in _NO_TCX:
                return None
            raise
        return Tcx(program, index, hook)

    def _attach_clsact(self, program: Program, index: int, hook: int) -> Clsact:
        with IPRoute() as route:
            made = False
            if not any(q.get_attr("TCA_KIND") == _CLSACT for q in route.get_qdiscs(index)):
                route.tc("add", _CLSACT, index)
                made = True
            taken = {number for number, _ in _filters(route, index, hook)}
            handle = next(number for number in range(1, 0xFFFF) if number not in taken)
            route.tc(
                "add-filter",
                "bpf",
                index,
                fd=program.number,
                name=self.name,
                parent=_PARENTS[hook],
                direct_action=True,
                classid=1,
                **_place(handle),
            )
        return Clsact(index, hook, handle, made)

    def _directory(self) -> list[bytes]:
        return tables.directory_keys(self._element("directory"))

    def _element(self, name: str) -> bytes:
        """Return the only element of an array."""
        value = self.maps[name].get(bytes(4))
        assert value is not None, "an array has all its elements"
        return value

    def _counters(self, name: str, first: int, count: int) -> tuple[int, ...]:
        map_ = self.maps[name]
        values = struct.unpack(f"={count * map_.cpus}Q", map_.get_array(first, count))
        return tuple(sum(values[i : i + map_.cpus]) for i in range(0, len(values), map_.cpus))
