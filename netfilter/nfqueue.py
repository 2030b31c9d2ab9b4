"""The filter `nfqueue`: the reference, in Python, for one packet of each flow.

A thread takes packets from the kernel's queue and gives verdicts by an immutable table, which
`apply` swaps whole; no packet passes through an inbox. Where nobody answers, nothing is taken:
no bypass, no fail-open, and what waits in the queue while the process is frozen is judged by the
lease of the time it goes on.
"""

import contextlib
import importlib
import os
import select
import socket
import struct
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.extras import installing
from mirrorfarm.limits import (
    PACKET_HEAD_BYTES_MAX,
    QUEUE_SOCKET_BYTES,
    QUEUED_PACKETS_MAX,
    Nanoseconds,
)
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable, Settings
from mirrorfarm.netfilter.lease import Lease
from mirrorfarm.netfilter.libnftables import Nftables
from mirrorfarm.netfilter.nfqueue_rules import (
    Mark,
    decide,
    forget,
    mark,
    queue_rules,
    queue_rules_removal,
    rule_set,
)
from mirrorfarm.netfilter.nft import (
    PARTS_EVERY,
    TRACKING,
    Part,
    has_parts,
    named_counters,
    parts,
    remove_tables,
)
from mirrorfarm.netfilter.nft_rules import removal
from mirrorfarm.netfilter.sysctls import FILTER, Sysctls

_RESTORE = ("iptables-restore", "ip6tables-restore")
_SAVE = ("iptables-save", "ip6tables-save")
_RESTORE_SECONDS = 10
_LOOK_SECONDS = 0.3  # The lease is renewed by the thread that looks.
_NO_RULE = 1  # What iptables ends with, also without a table; 4 if another holds its lock.
_TURN_SECONDS = 1.0
_PROBED_QUEUE = 65_535  # Modules count from 0.
_NETLINK_NETFILTER = 12
_QUEUE_CONFIG = 0x302  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG.
_CONFIG_MASK, _CONFIG_FLAGS = 4, 5
_GSO = 4  # NFQA_CFG_F_GSO: joined segments come as they are, not taken apart first.


class NfqueueFilter:
    """A `PacketFilter` in user space. Methods are called by one thread, packets come on another."""

    def __init__(self, ledger: Path) -> None:
        """`ledger` is the node's file of held kernel parameters."""
        self._ledger = ledger
        self._settings: Settings | None = None
        self._table = NO_BUCKETS
        self._looks = 0
        self._remembers = False  # Verdicts of an earlier table may be in the kernel.
        self._deadline_ns: Nanoseconds = 0
        self._deciding = threading.Lock()  # Held while a verdict is made and given.
        self._asked: Counter[str] = Counter()
        self._marks: dict[int, Mark] = {}
        self._words: dict[Mark, int] = {}
        self._queue: Any = None
        self._stop: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._tables: Nftables | None = None
        self._lease: Lease | None = None
        self._sysctls: Sysctls | None = None
        self._parts: frozenset[Part] = frozenset()

    def open(self, settings: Settings) -> None:
        """Load the rules and answer the queue; what a killed predecessor left is replaced.

        Raises SystemUnsuitable or OSError if the kernel refuses, or something is not installed.
        """
        assert self._settings is None, "opened twice"
        self._settings = settings
        self._words = {what: mark(settings, what) for what in Mark}
        self._marks = {word: what for what, word in self._words.items()}
        self._tables = Nftables()
        try:
            self._bind()
            self._tables.run(removal(settings.module) + rule_set(settings))
            self._parts = parts(self._tables, settings.module)
            self._lease = Lease(self._tables, settings.module)
            self._sysctls = Sysctls(self._ledger, f"{FILTER} {settings.module}")
            self._sysctls.hold(TRACKING)
            _remove_queue_rules(settings.module)
            for program in _RESTORE:
                _restore(program, queue_rules(settings, "-A"))
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._run, name="nfqueue", daemon=True)
        self._thread.start()

    def apply(self, table: BucketTable) -> None:
        """Swap the table, and forget the verdicts made by the one before."""
        assert self._settings
        assert self._tables
        with self._deciding:
            self._remembers |= table.groups != self._table.groups
            self._table = table
        if self._remembers:
            self._tables.run(forget(self._settings.module))
            self._remembers = False

    def renew(self, deadline_ns: Nanoseconds) -> bool:
        """Prolong the lease; False: it had run out, and every bucket is FOREIGN now."""
        assert self._lease
        if self._lease.renew(deadline_ns):
            self._deadline_ns = deadline_ns
            return True
        self._deadline_ns = 0
        self.apply(BucketTable(self._table.view))
        return False

    def is_whole(self) -> bool:
        """Return whether its tables are there, and now and then each rule, of iptables, too."""
        assert self._settings
        assert self._tables
        self._looks += 1
        each = self._looks % PARTS_EVERY == 0
        if not has_parts(self._tables, self._settings.module, self._parts, each=each):
            return False
        if not each:
            return True
        wanted = queue_rules(self._settings, "-C")
        return all(_may_have(program, wanted) for program in _RESTORE)

    def counters(self) -> dict[str, int]:
        """Return packets by what was done with them; `asked`: those seen by this process."""
        assert self._tables
        assert self._settings
        counted = named_counters(self._tables, self._settings.module)
        for name, packets in {"asked": 0, **self._asked}.items():
            counted[name] = counted.get(name, 0) + packets
        return counted

    def close(self) -> None:
        """Stop answering, then remove every rule and restore the kernel's parameters."""
        if self._settings is None:
            return
        self._stop_thread()
        try:
            _remove_queue_rules(self._settings.module)
            if self._tables is not None:
                self._tables.run(removal(self._settings.module))
        finally:
            if self._tables is not None:
                self._tables.close()
            if self._sysctls is not None:
                self._sysctls.release()
            if self._queue is not None:
                self._queue.unbind()
            self._settings = self._queue = self._tables = self._lease = None
            self._table, self._remembers = NO_BUCKETS, False

    def _bind(self) -> None:
        """Become the one who answers the queue."""
        assert self._settings
        library = _library()
        queue = library.NetfilterQueue()
        try:
            queue.bind(
                self._settings.queue,
                self._receive,
                max_len=QUEUED_PACKETS_MAX,
                mode=library.COPY_PACKET,
                range=PACKET_HEAD_BYTES_MAX,
                sock_len=QUEUE_SOCKET_BYTES,
            )
        except OSError as error:
            raise SystemUnsuitable(
                f"NFQUEUE number {self._settings.queue} cannot be used: {error}; another program "
                "has it, or the kernel lacks nfnetlink_queue"
            ) from error
        self._queue = queue
        _take_joined_segments(queue.get_fd(), self._settings.queue)

    def _run(self) -> None:
        self._stop = os.pipe2(os.O_CLOEXEC)
        poll = select.poll()
        poll.register(self._stop[0], select.POLLIN)
        poll.register(self._queue.get_fd(), select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll(_TURN_SECONDS * 1_000)}
            if self._stop[0] in ready:
                return
            if ready:
                # A full socket says ENOBUFS: those packets were dropped, which is what we want.
                with contextlib.suppress(OSError):
                    self._queue.run(False)

    def _stop_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        while thread.is_alive():
            if self._stop is not None:
                os.write(self._stop[1], b"s")
            thread.join(timeout=0.1)
        assert self._stop
        for end in self._stop:
            os.close(end)
        self._stop = None

    def _receive(self, packet: Any) -> None:
        """Give the verdict on one packet; called by the library, which must not see an error."""
        with self._deciding:
            try:
                verdict = self._judge(packet)
            except Exception:
                self._asked["failed"] += 1
                verdict = Mark.DROP
            if verdict is Mark.DROP:
                packet.drop()
                return
            # Also what is dropped goes on, to be remembered by the next step, which drops it.
            packet.set_mark(self._words[verdict])
            packet.accept()

    def _judge(self, packet: Any) -> Mark:
        assert self._settings
        self._asked["asked"] += 1
        if boot_clock_ns() >= self._deadline_ns:
            self._asked["fenced"] += 1
            return Mark.DROP
        asked = self._marks.get(packet.get_mark(), Mark.UNDECIDED)
        settings = self._settings
        verdict = decide(packet.get_payload(), asked, settings.rules, settings.seed, self._table)
        if verdict is Mark.DROP:
            self._asked["resets" if asked is Mark.RESET else "refused"] += 1
        return verdict


def remove_rules(module: str) -> None:
    """Remove a module's rules and tables, whoever made them; raises SystemUnsuitable or OSError."""
    _remove_queue_rules(module)
    remove_tables(module)


def check_queue() -> None:
    """Raise SystemUnsuitable, in words, if NFQUEUE cannot work on this node."""
    queue = _library().NetfilterQueue()
    try:
        queue.bind(_PROBED_QUEUE, lambda packet: packet.drop())
        queue.unbind()
    except OSError as error:
        raise SystemUnsuitable(
            f"the kernel lacks nfnetlink_queue, or refuses it: {error}"
        ) from error
    for program in _RESTORE:
        _restore(program, "*mangle\nCOMMIT\n")


def _library() -> Any:
    try:
        return importlib.import_module("netfilterqueue")
    except ImportError as error:
        raise SystemUnsuitable(
            "the Python package netfilterqueue is not installed: run `apt install build-essential "
            f"python3-dev libnetfilter-queue-dev`, then {installing('nfqueue')}"
        ) from error


def _restore(program: str, rules: str) -> None:
    """Hand rules to iptables, all or none; raise SystemUnsuitable with what it said."""
    try:
        done = subprocess.run(
            [program, "--noflush", "--wait", "5"],
            input=rules,
            capture_output=True,
            text=True,
            check=False,
            timeout=_RESTORE_SECONDS,
        )
    except FileNotFoundError as error:
        raise SystemUnsuitable(f"{program} is missing: install the package iptables") from error
    except subprocess.TimeoutExpired as error:
        raise SystemUnsuitable(f"{program} hangs: another one holds its lock") from error
    if done.returncode:
        raise SystemUnsuitable(f"{program} refuses the rules of NFQUEUE: {done.stderr.strip()}")


def _remove_queue_rules(module: str) -> None:
    """Remove a module's rules, as many of them as there are; raise SystemUnsuitable if one stays.

    A killed predecessor may have left some, and another program may have removed some.
    """
    for save, restore in zip(_SAVE, _RESTORE, strict=True):
        rules = queue_rules_removal(_saved(save), module)
        if rules:
            _restore(restore, rules)


def _saved(program: str) -> str:
    """Return the rules among which the module's are; none where iptables is or has none."""
    try:
        done = subprocess.run(
            [program, "-t", "mangle"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_RESTORE_SECONDS,
        )
    except FileNotFoundError:
        return ""
    except subprocess.TimeoutExpired as error:
        raise SystemUnsuitable(f"{program} hangs") from error
    if done.returncode not in (0, _NO_RULE):
        raise SystemUnsuitable(f"{program} does not tell its rules: {done.stderr.strip()}")
    return done.stdout


def _may_have(program: str, rules: str) -> bool:
    """Return whether iptables does not deny having rules; one that is busy is not waited for."""
    try:
        done = subprocess.run(
            [program, "--noflush"],
            input=rules,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LOOK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.returncode != _NO_RULE


def _take_joined_segments(descriptor: int, queue: int) -> None:
    """Set the flag that the library has no call for, on its own socket."""
    attributes = b"".join(
        struct.pack("=HH", 8, kind) + struct.pack("!I", _GSO)
        for kind in (_CONFIG_FLAGS, _CONFIG_MASK)
    )
    body = struct.pack("!BBH", 0, 0, queue) + attributes
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER, fileno=os.dup(descriptor)
    ) as sock:
        sock.send(struct.pack("=IHHII", 16 + len(body), _QUEUE_CONFIG, 1, 0, 0) + body)
