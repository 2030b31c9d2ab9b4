"""The data plane of a module on one node: carries out what the core orders, and reports.

Long orders run one after the other on a thread of their own; the gate, sessions and the abort
act at once, on the caller's thread.

Whatever fails, what the plane says is true: a fault is told when the gate is ended and nothing is
mounted any more. Where that cannot be known, the thread ends, and by that the process.
"""

import contextlib
import errno
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq

from mirrorfarm.actors.replicator import core, gate, mapfile
from mirrorfarm.actors.replicator.applier import Applier
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.follower import Follower
from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.journal import Journal, LocalJournal
from mirrorfarm.actors.replicator.mounts import Identity, Mounts, clear_leftovers
from mirrorfarm.actors.replicator.quarantine import Quarantine
from mirrorfarm.actors.replicator.scope import Scope
from mirrorfarm.actors.replicator.session import Session
from mirrorfarm.actors.replicator.subject import Subject
from mirrorfarm.actors.replicator.target import Target
from mirrorfarm.actors.replicator.whereabouts import Whereabouts
from mirrorfarm.actors.replicator.wire import Doorkeeper, Link, StreamKeys
from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.limits import SECOND_NS, Nanoseconds
from mirrorfarm.modules.settings import Replication
from mirrorfarm.oserrors import located

_TOLD_CHARACTERS_MAX: Final = 600
_DRAIN_NS: Final = 10 * SECOND_NS
_WATCHDOG_S: Final = 15.0
_FROZEN_S: Final = 2.0
_LISTEN_S: Final = 5.0  # A predecessor's socket may take a moment to go.
_FAULTS: Final = (OSError, MirrorfarmError, zmq.ZMQError)  # All others are our own.


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """What a plane is made from."""

    replication: Replication
    timeout_ns: Nanoseconds  # After which a silent or late peer breaks the session.
    listen: str  # Endpoint, `tcp://address:port`.
    peer: str
    keys: StreamKeys
    map_file: Path
    quarantine: Path  # Folder of what copies replace.
    scope: str = ""  # Control group of the application.
    subject: Subject = ()


class Plane:
    """Mounts, gate, sessions, target; `inbox` gets the core's events from any thread."""

    def __init__(
        self,
        settings: PlaneSettings,
        inbox: Callable[[Any], None],
        report: Callable[[str], None],
        exit_process: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._report = report
        self._exit = exit_process
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._doorkeeper = Doorkeeper(self._context, settings.keys.peer_public.__eq__)
        self.carrier = Carrier(held=lambda: inbox(core.PlaneHeld()), lost=self._lost)
        self._mounts = Mounts(settings.scope, report)
        self.session: Session | None = None
        self.target: Target | None = None
        self._applier: Applier | None = None
        self._follower: Follower | None = None
        self._role = "off"
        self._behind = False  # What was ended last had modifications that the peer may lack.
        self._exclusions = [
            Exclusions(one.notreplicated, one.notreplicated_regexes)
            for one in settings.replication.directories
        ]
        self._scope = Scope(settings.map_file.with_name("scope"), settings.replication)
        self._places = Whereabouts(settings.map_file, settings.replication, report)
        self._long: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="plane", daemon=True)
        self._thread.start()

    def order(self, verb: str, arguments: tuple[Any, ...]) -> None:
        """Carry out one order of the core; never blocks for long."""
        match verb:
            case "mount_lead" | "mount_follow" | "unmount" | "accept_session":
                work = getattr(self, f"_{verb}")
                self._long.put(lambda: self._try(arguments[0], verb, work, arguments[1:]))
            case "gate":
                run, _, _, mode, base, new = arguments
                self._set_gate(run, mode, self.carrier.set_gate(mode, base, new=new))
            case "open_session":
                self._open_session(*arguments)
            case "close_session":
                self._close_session()
            case "abort":
                self.abort()
            case "exit":
                self._exit()
            case _:
                raise AssertionError(verb)

    def close(self) -> None:
        """End the threads; mounts are expected to be gone."""
        self._long.put(None)
        self._thread.join(5)
        self._doorkeeper.close()
        self._context.destroy(0)

    # --- long orders -----------------------------------------------------------------------

    def _work(self) -> None:
        while (work := self._long.get()) is not None:
            work()

    def _try(
        self, run: int, verb: str, work: Callable[..., None], arguments: tuple[Any, ...]
    ) -> None:
        try:
            work(*arguments)
        except _FAULTS as fault:
            if verb.startswith("mount"):
                self._end_what_failed()
            text = located(fault) if isinstance(fault, OSError) else str(fault)
            self._tell_fault(run, verb, text, getattr(fault, "errno", 0) or errno.EIO)
        except Exception as fault:
            self.abort()  # What is mounted now nobody knows.
            self._tell_fault(run, verb, repr(fault), errno.EIO)
            raise
        else:
            users = "; ".join(self._mounts.users)[:_TOLD_CHARACTERS_MAX]
            self._inbox(core.PlaneDone(run, self._behind, users))

    def _tell_fault(self, run: int, verb: str, text: str, number: int) -> None:
        self._report(f"{verb}: {text}")
        self._inbox(core.PlaneFault(run, number, text))

    def _end_what_failed(self) -> None:
        try:
            self._end_all(clean=False)
        except _FAULTS as fault:  # It is ended all the same.
            self._report(f"end of what could not be mounted: {fault}")

    def _mount(self, journal: Journal, *, read_only: bool) -> None:
        replication = self._settings.replication
        self._mounts = Mounts(self._settings.scope, self._report)
        with self._places.required():
            for index, one in enumerate(replication.directories):
                system = FileSystem(
                    one.dir,
                    index,
                    journal,
                    read_only=read_only,
                    writeback=replication.mode == "commit",
                    each=replication.mode == "each",
                    threads=replication.threads,
                    directories=len(replication.directories),
                    exclusions=self._exclusions[index],
                    report=self._report,
                )
                self._mounts.systems.append(system)
                system.mount()
        self._mounts.watch_paths(lambda text: self._lost(errno.ENOTCONN, text))

    def _mount_lead(self, term: int, map_base: str) -> None:
        del term
        self.carrier.gate.set(gate.OFF)  # Ends what an earlier failure of the disk left.
        self.carrier.gate.set(gate.FROZEN)
        self._role = "lead"
        self._mount(self.carrier, read_only=False)
        disks = self._mounts.identities()
        self._mounts.watch_disks()
        if self._settings.replication.ack_mode == "received":
            # A predecessor may have taken in, and confirmed, what is in memory only.
            self._mounts.disks.flush()
        changes = mapfile.take(self._settings.map_file, map_base, disks)
        self.carrier.reset(changes, map_base if changes is not None else "")

    def _mount_follow(self, term: int) -> None:
        del term
        self._role = "follow"
        # What an earlier term of leading changed is not to be known here any more.
        mapfile.take(self._settings.map_file, "", ())
        self._mount(LocalJournal(), read_only=True)
        self._applier = Applier(self._mounts.roots, exclusions=self._exclusions)
        self._follower = worker = Follower(self._applier, self._copied, self._refused, self._report)
        suffices = self._settings.replication.ack_mode == "received"
        deadline = time.monotonic() + _LISTEN_S
        while True:
            try:
                self.target = Target(
                    self._link(self._settings.listen), worker, received_suffices=suffices
                )
            except zmq.ZMQError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                self._applier.lives = self.target.lives
                return

    def _accept_session(self, term: int, sid: int, quarantine: str) -> None:
        assert self.target is not None, "only while following"
        assert self._follower is not None, "only while following"
        self.target.accept(0, 0)
        self._end_quarantine()
        if quarantine:
            folder = self._settings.quarantine / quarantine
            self._follower.aside = Quarantine(folder)
            self._report(f"what the copy replaces is set aside in {folder}")
        self.target.accept(term, sid)

    def _end_quarantine(self) -> None:
        if self._follower is not None and self._follower.aside is not None:
            self._follower.aside.close()
            self._follower.aside = None

    def _unmount(self, clean: bool, stays: bool) -> None:
        if self._mounts.systems:
            self._end_all(clean=clean, stays=stays)
        else:
            clear_leftovers(one.dir for one in self._settings.replication.directories)

    def _end_all(self, *, clean: bool, stays: bool = False) -> None:
        """End what is mounted (`stays`: dead mounts are left); only then tell what of it failed."""
        mounts, leading = self._mounts, self._role == "lead"
        self._behind = leading  # Unless all goes well.
        try:
            self._close_target()
            if leading and not clean:
                self._abort(mounts)
            disks = self._end_mounts(mounts, clean=clean, stays=stays)
            if leading:
                self._end_leading(disks)
            elif clean and self._applier is not None:
                self._applier.sync_all()
        except BaseException:
            self._abort(mounts)  # First of all nothing is acknowledged any more.
            raise
        finally:
            self._clear(mounts, stays=stays)

    def _end_mounts(self, mounts: Mounts, *, clean: bool, stays: bool) -> tuple[Identity, ...]:
        """Unmount; return the disks below if the kernel has written back all that it held."""
        # Behind a frozen gate the kernel cannot write back: what was never acknowledged is lost.
        frozen = self._role == "lead" and self.carrier.gate.mode == gate.FROZEN
        with self._watched(mounts, _FROZEN_S if frozen else _WATCHDOG_S):
            disks = mounts.flush() if clean and not mounts.aborted else ()
            mounts.unmount(patient=clean, stays=stays)
        return () if mounts.aborted else disks

    @contextlib.contextmanager
    def _watched(self, mounts: Mounts, seconds: float) -> Iterator[None]:
        """Abort what is ended if that takes too long, and never what is mounted afterwards."""
        watchdog = threading.Timer(seconds, self._abort, (mounts,))
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
            watchdog.join()  # It may have begun: it ends the gate, which others need next.

    def _clear(self, mounts: Mounts, *, stays: bool) -> None:
        """Leave nothing of a role, whatever could not be ended as it should."""
        self._role = "off"
        with contextlib.ExitStack() as steps:  # All of them, the last one first.
            steps.callback(mounts.disks.close)
            steps.callback(self._close_applier)
            steps.callback(self._close_session)
            steps.callback(mounts.unmount, patient=False, stays=stays)
        mounts.systems = []

    def _close_target(self) -> None:
        target, self.target = self.target, None
        if target is not None:
            target.close()

    def _close_applier(self) -> None:
        applier, self._applier = self._applier, None
        try:
            self._end_quarantine()
        finally:
            self._follower = None
            if applier is not None:
                applier.close()

    def _end_leading(self, disks: tuple[Identity, ...]) -> None:
        """Drain the session, and save the map if it is whole and all went cleanly."""
        session = self.session
        if session is None or not disks:
            self._behind = not disks or bool(self.carrier.marks.snapshot())
        else:  # What it did not carry is in the map, if there is one.
            self._behind = not session.source.drained(_DRAIN_NS)
            if self._settings.replication.ack_mode == "received" and not self._behind:
                # The only copy that counts from now on must not be in memory alone.
                self._behind = not session.flush(_DRAIN_NS / SECOND_NS)
        self._close_session()
        if disks:
            self._mounts.disks.flush()
        self.carrier.gate.set(gate.OFF)
        base = self.carrier.marks.trusted
        if disks and base:
            mapfile.save(self._settings.map_file, self.carrier.marks.snapshot(), base, disks)

    # --- at once ---------------------------------------------------------------------------

    def abort(self) -> None:
        """Fail everything that waits or comes, now; from any thread."""
        self._abort(self._mounts)

    def _abort(self, mounts: Mounts) -> None:
        mounts.aborted = True  # First: what fails by this is no failure of a disk.
        self.carrier.gate.end()
        mounts.abort()

    def _set_gate(self, run: int, mode: str, trusted: str) -> None:
        """Report the gate; `both` only when the target has all that was ever answered without it.

        What the gate `self` let through before is told to the application as done, but may still
        be on its way: until it is durable there, the target must not count as up to date (R5).
        """
        session = self.session
        if mode != gate.BOTH or session is None:
            counted = mode == gate.FROZEN and bool(trusted)
            self._inbox(core.PlaneGated(run, trusted, self.carrier.changes() if counted else -1))
            return

        last = session.source.last

        def report() -> None:
            while not session.source.reached(last, _DRAIN_NS):
                if session.source.broken or self.session is not session:
                    return  # The mirror hears of it, and wishes for something else.
            self._inbox(core.PlaneGated(run, trusted))

        try:
            threading.Thread(target=report, name="gate", daemon=True).start()
        except RuntimeError as fault:
            session.source.give_up(f"nothing can wait for it: {fault}")

    def _open_session(self, term: int, sid: int, plan: str, _peer: str) -> None:
        self._close_session()
        stream = (term, sid, secrets.randbits(63) | 1)
        link = self._link(self._settings.peer)
        if plan != "full" and not self._scope.is_kept():
            self._report("what is replicated has changed: everything is compared once")
            plan = "full"
        try:
            self.session = Session(self.carrier, link, stream, self._inbox, self._keep_scope)
            self.session.start(plan, self._mounts.roots, self._exclusions)
        except (*_FAULTS, RuntimeError) as fault:  # No descriptor is left, or no thread.
            self._close_session()
            self._inbox(core.PlaneSessionBroken(term, sid, f"it could not be opened: {fault}"))

    def _close_session(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.close()

    def _link(self, endpoint: str) -> Link:
        s = self._settings
        return Link(self._context, endpoint, s.keys, s.timeout_ns, s.subject)

    # --- news ------------------------------------------------------------------------------

    def _lost(self, error: int, text: str) -> None:
        self._inbox(core.PlaneStorage("data", error, text[-_TOLD_CHARACTERS_MAX:]))

    def _refused(self, error: int, text: str) -> None:
        # An OSError's own text repeats the number.
        self._lost(error, os.strerror(error) if text.startswith("[Errno ") else text)

    def _copied(self, term: int, sid: int) -> None:
        self._keep_scope()
        self._inbox(core.PlaneCopied(term, sid))

    def _keep_scope(self) -> None:
        try:
            self._scope.keep()
        except OSError as fault:  # The next session then compares once more.
            self._report(f"{self._scope.path}: {fault}")
