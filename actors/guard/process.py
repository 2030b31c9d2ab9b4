"""The guard: at its deadline it takes the addresses from this node and ends the application.

A process of its own, started as `python3 -S -E -I process.py CHANNEL CGROUP` with two inherited
descriptors: a SOCK_SEQPACKET pair, and the directory of the application's control group. It uses
the standard library alone and imports nothing of this project, so that nothing that stops or
slows the module (a lock, a long computation, SIGSTOP, a crash) can keep it from acting.

It hears `addresses A B …`, `arm NANOSECONDS` (boot clock) and `disarm`; it says `ready` and
`acted NANOSECONDS LEFT`. When its parent ends, an armed guard stays until it has acted.

Once it has acted, and until the next order, it takes away whatever address is set: its parent may
have stood still just before it set one, and go on afterwards.
"""

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

PACKET_BYTES_MAX = 65_536
PACKETS_AT_ONCE_MAX = 4_096  # More than wait where this process stood still: see `run`.
KILL_NS = 2_000_000_000
RETRY_MS = 20  # After a refusal of the kernel.
NETLINK_TIMEOUT = struct.pack("ll", 1, 0)

CLOCK_BOOTTIME = 7
TIMER_CLOEXEC, TIMER_ABSOLUTE = 0o2000000, 1
LOCK_CURRENT, LOCK_FUTURE, LOCK_ON_FAULT = 1, 2, 4
PRIORITY = 50

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
NETLINK_LEVEL, JOIN, LEAVE = 270, 1, 2
CHANGES = (5, 9)  # Groups: addresses of IPv4, of IPv6.
FAMILIES = (socket.AF_INET, socket.AF_INET6)
LISTINGS_MAX = 5  # Of entries that change while they are listed.
DONE, ERROR, DELADDR, GETADDR = 3, 2, 21, 22
REQUEST, ACK, INTERRUPTED, DUMP = 0x1, 0x4, 0x10, 0x300
GONE = (errno.EADDRNOTAVAIL, errno.ENODEV)
IFA_ADDRESS, IFA_LOCAL = 1, 2
KIND = 0x3FFF  # Of an attribute, without its flags.
HEADER, ADDRESS, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("=HH")

Found = tuple[int, int, int, bytes]  # Family, prefix length, interface index, address.


class Netlink:
    """Asks the kernel for what it knows of interfaces, addresses and routes, and to change it."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, NETLINK_TIMEOUT)
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def listed(self, kind: int, body: bytes) -> list[bytes]:
        """Return the bodies of all entries of a kind. OSError: what the kernel said is not whole.

        Of the entries that were there when something was removed meanwhile one may be missing:
        then all are asked for again.
        """
        for _ in range(LISTINGS_MAX):
            with contextlib.suppress(InterruptedError):
                return list(self._ask(kind, DUMP, body))
        raise InterruptedError(
            errno.EINTR, "the kernel's entries changed whenever they were listed"
        )

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """Have the kernel change something. OSError: it refused."""
        for _ in self._ask(kind, flags | ACK, body):
            pass

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        """Send one request; yield the bodies of the answers until the last one.

        OSError: the kernel refused. InterruptedError: something was removed meanwhile.
        """
        self._sequence += 1
        size = HEADER.size + len(body)
        self.socket.send(HEADER.pack(size, kind, flags | REQUEST, self._sequence, 0) + body)
        whole = True
        while True:
            data, at = self.socket.recv(PACKET_BYTES_MAX), 0
            while at + HEADER.size <= len(data):
                size, kind, marks, sequence, _ = HEADER.unpack_from(data, at)
                if sequence == self._sequence:
                    # Heard to its end all the same: until then the kernel takes no other request.
                    whole = whole and not marks & INTERRUPTED
                    content = data[at + HEADER.size : at + size]
                    if kind in (DONE, ERROR):
                        code = int.from_bytes(content[:4], sys.byteorder, signed=True)
                        if code < 0:
                            raise OSError(-code, os.strerror(-code))
                        if not whole:
                            raise InterruptedError
                        return
                    yield content
                at += max(HEADER.size, (size + 3) & ~3)


class News:
    """The kernel's news of some groups: that something changed is all that is taken from them."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, 0))  # Without a number of its own it is told nothing.

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def fileno(self) -> int:
        """Return what a poll waits for."""
        return self._socket.fileno()

    def watch(self, order: int, groups: tuple[int, ...]) -> None:
        """Be told of every change in these groups: JOIN, or LEAVE."""
        for group in groups:
            self._socket.setsockopt(NETLINK_LEVEL, order, group)

    def hear(self) -> bool:
        """Take what is there; return whether anything may have changed."""
        changed = False
        for _ in range(PACKETS_AT_ONCE_MAX):
            try:
                self._socket.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError:  # More changed than there was room for.
                pass
            changed = True
        return changed


class Addresses:
    """The node's addresses, through a netlink socket that is opened while all is well."""

    def __init__(self) -> None:
        self._netlink, self.news = Netlink(), News()

    def close(self) -> None:
        """Close the sockets."""
        self._netlink.close()
        self.news.close()

    def watch(self, order: int) -> None:
        """Have `news` tell of every change of the node's addresses: JOIN, or LEAVE."""
        self.news.watch(order, CHANGES)

    def remove(self, unwanted: frozenset[bytes], still: Callable[[], bool] = lambda: True) -> None:
        """Remove every address in `unwanted`, whatever interface carries it.

        `still` is asked once they are found. OSError: one may be left.
        """
        found = [entry for entry in self.present() if entry[3] in unwanted]
        refusals = []
        for family, prefix, index, address in found if found and still() else ():
            body = ADDRESS.pack(family, prefix, 0, 0, index) + attribute(IFA_LOCAL, address)
            try:
                self._netlink.change(DELADDR, 0, body)
            except OSError as error:
                if error.errno not in GONE:
                    refusals.append(error)
        if refusals:
            raise refusals[0]

    def present(self) -> list[Found]:
        """Return every address of the node. OSError: what the kernel said is not whole."""
        # One family after the other: between them the kernel forgets that something changed.
        return [entry for family in FAMILIES for entry in self._of_family(family)]

    def _of_family(self, wanted: int) -> Iterator[Found]:
        for body in self._netlink.listed(GETADDR, ADDRESS.pack(wanted, 0, 0, 0, 0)):
            family, prefix, _, _, index = ADDRESS.unpack_from(body)
            found = attributes(body, ADDRESS.size)
            address = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
            # A kernel without IPv6 lists all instead.
            if address and family == wanted:
                yield family, prefix, index, address


class Application:
    """The application's control group, of either version."""

    def __init__(self, directory: int) -> None:
        self._directory = directory

    def freeze(self) -> None:
        """Let no process of the application take another step."""
        self._write("cgroup.freeze", b"1") or self._write("freezer.state", b"FROZEN")

    def end(self) -> int:
        """Freeze, then kill; return how many processes are left after the time limit."""
        until = time.clock_gettime_ns(CLOCK_BOOTTIME) + KILL_NS
        while True:
            self.freeze()
            if not self._write("cgroup.kill", b"1"):
                for process in self.processes():
                    with contextlib.suppress(OSError):
                        os.kill(process, signal.SIGKILL)
            # Thawed, the dead can go, and scripts can run here again.
            self._write("cgroup.freeze", b"0") or self._write("freezer.state", b"THAWED")
            left = self.processes()
            if not left or time.clock_gettime_ns(CLOCK_BOOTTIME) > until:
                return len(left)
            time.sleep(0.001)

    def processes(self) -> list[int]:
        """Return the processes of the group and those below it."""
        found = []
        for folder, _, _ in os.walk(f"/proc/self/fd/{self._directory}/"):
            with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs") as file:
                found += [int(word) for word in file.read().split()]
        return [process for process in found if process]  # 0: of a foreign pid namespace.

    def _write(self, name: str, value: bytes) -> bool:
        try:
            file = os.open(name, os.O_WRONLY, dir_fd=self._directory)
        except OSError:
            return False
        try:
            os.write(file, value)
        except OSError:
            return False
        finally:
            os.close(file)
        return True


class Guard:
    """Waits for orders and for the deadline; uses no time otherwise."""

    def __init__(self, channel: socket.socket, directory: int) -> None:
        self._channel = channel
        self._channel.setblocking(False)
        self._application = Application(directory)
        self._addresses = Addresses()
        self._unwanted: frozenset[bytes] = frozenset()
        self._deadline = 0
        self._orphan = False
        self._acted = False  # And no order came since.
        self._stays = False  # An address may, although it was to be removed.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(CLOCK_BOOTTIME, TIMER_CLOEXEC)

    def harden(self) -> None:
        """Take what the system grants: memory that stays, real time, no death for memory."""
        self._libc.mlockall(LOCK_CURRENT | LOCK_FUTURE | LOCK_ON_FAULT)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")
        # Walk the paths of the deadline once: their pages are in memory from now on.
        with contextlib.suppress(OSError):
            self._addresses.remove(frozenset())
        self._application.processes()
        self._arm(0)
        self._say("ready")

    def run(self) -> None:
        """Serve until the parent is gone and no deadline, and no address, is left."""
        while self._deadline or self._stays or not self._orphan:
            poll = select.poll()  # Not `select`: our parent's descriptors may be above 1023.
            poll.register(self._timer, select.POLLIN)
            if not self._orphan:
                poll.register(self._channel, select.POLLIN)
            if self._acted:
                poll.register(self._addresses.news, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(RETRY_MS if self._stays else None)}
            # Orders first, all of them: one that came in before the deadline may have moved it.
            self._hear_all()
            if self._deadline and time.clock_gettime_ns(CLOCK_BOOTTIME) >= self._deadline:
                self._act()
            elif self._acted and (self._stays or self._addresses.news.fileno() in ready):
                self._addresses.news.hear()
                self._remove(self._may_not_yet)

    def _hear_all(self) -> None:
        for _ in range(PACKETS_AT_ONCE_MAX):
            if self._orphan or not self._hear():
                break

    def _hear(self) -> bool:
        """Take one order; False: there is none."""
        try:
            packet = self._channel.recv(PACKET_BYTES_MAX)
        except BlockingIOError:
            return False
        except OSError:
            packet = b""
        words = packet.decode().split()
        if not words:
            self._orphan = True
        elif words[0] == "addresses":
            self._unwanted = frozenset(packed(word) for word in words[1:])
        elif words[0] == "arm":
            self._arm(int(words[1]))
        elif words[0] == "disarm":
            self._arm(0)
        return True

    def _arm(self, deadline: int) -> None:
        if self._acted:
            self._acted = self._stays = False
            with contextlib.suppress(OSError):
                self._addresses.watch(LEAVE)
        self._deadline = deadline
        seconds, rest = divmod(deadline, 1_000_000_000)
        times = (ctypes.c_long * 4)(0, 0, seconds, rest)  # No repetition; zero: no alarm.
        self._libc.timerfd_settime(self._timer, TIMER_ABSOLUTE, times, None)

    def _act(self) -> None:
        deadline = self._deadline
        self._application.freeze()  # At once; netlink may have to wait for others.
        try:
            with contextlib.suppress(OSError):
                self._addresses.watch(JOIN)
            self._remove()
        finally:
            left = self._application.end()
        self._arm(0)
        self._acted = True
        self._say(f"acted {deadline} {left}")

    def _remove(self, still: Callable[[], bool] = lambda: True) -> None:
        """Take the addresses away; whatever keeps them, the application behind them ends."""
        self._stays = True
        with contextlib.suppress(OSError, struct.error):
            self._addresses.remove(self._unwanted, still)
            self._stays = False

    def _may_not_yet(self) -> bool:
        """Return whether the addresses are still forbidden: an order precedes what it allows."""
        self._hear_all()
        return self._acted

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # Nobody listens, or not now: acting is what counts.
            self._channel.send(text.encode())


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute of a request, filled up to whole words."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(body: bytes, at: int) -> dict[int, bytes]:
    """Return the attributes of an answer that begin at `at`, by kind."""
    found = {}
    while at + ATTRIBUTE.size <= len(body):
        size, kind = ATTRIBUTE.unpack_from(body, at)
        found[kind & KIND] = body[at + ATTRIBUTE.size : at + size]
        at += max(ATTRIBUTE.size, (size + 3) & ~3)
    return found


def packed(address: str) -> bytes:
    """Return the bytes of an IPv4 or IPv6 address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def main() -> None:
    """Run the guard on the descriptors given as arguments."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    guard = Guard(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    guard.harden()
    guard.run()


if __name__ == "__main__":
    main()
