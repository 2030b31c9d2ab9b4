"""The data plane of one node in virtual time: the file system and the mounts are models.

What decides about order, acknowledgement and the change map are the real parts of the
replicator: its core, its gate, its journal (`Carrier`) and both ends of the stream (`Source`,
`Target`), driven here instead of by threads. `replicator.plane` is mirrored order by order.
"""

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

from mirrorfarm.actors.replicator import changes, core, gate
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.operations import Fsync, Write
from mirrorfarm.actors.replicator.source import Source
from mirrorfarm.actors.replicator.target import Target
from mirrorfarm.actors.replicator.wire import Link, StreamKeys
from mirrorfarm.errors import RecordInvalid
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS, ZONE_BYTES
from mirrorfarm.sim.copying import SimSession
from mirrorfarm.sim.follower import Later, SimFollower
from mirrorfarm.sim.storage import Extents, file_of, zone_of
from mirrorfarm.sim.surroundings import Places, Surroundings

_DRAIN_NS = 10 * SECOND_NS
_LOOK_NS = MILLISECOND_NS
_FROZEN_NS = 2 * SECOND_NS
_ROOTS = ((1, 1),)
Answer = Callable[[int], None]


class SimPlane:
    """Gate, sessions and target of one node, and the file system over them."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._disk = around.disk
        self.carrier = Carrier(held=lambda: around.tell(core.PlaneHeld()), lost=self._lost)
        self.carrier.attach(0, Places())
        self.role = "off"
        self.term = 0
        self.session: SimSession | None = None
        self.target: Target | None = None
        self._follower: SimFollower | None = None
        self._aborted = self._behind = False
        self._long: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._entering: deque[tuple[int, int, Answer]] = deque()  # extent, write, answer
        self._open = 0  # Writes that were let in and not answered yet.

    def order(self, verb: str, arguments: tuple[Any, ...]) -> None:
        """Carry out one order of the core."""
        match verb:
            case "mount_lead" | "mount_follow" | "unmount" | "accept_session":
                self._long.append((verb, arguments))
                if len(self._long) == 1:
                    self._begin()
            case "gate":
                run, term, _, mode, base, new = arguments
                self._set_gate(run, term, mode, base, new=new)
            case "open_session":
                self._open_session(*arguments)
            case "close_session":
                self._close_session()
                self._pump()
            case "abort":
                self._abort()
            case "exit":
                self._around.exits()
            case _:
                raise AssertionError(verb)

    # --- long orders -----------------------------------------------------------------------

    def _begin(self) -> None:
        self._around.after(self._around.disk_ns(), self._work)

    def _work(self) -> None:
        verb, (run, *arguments) = self._long[0]
        match verb:
            case "mount_lead":
                self._mount_lead(run, *arguments)
            case "mount_follow":
                self._mount_follow(run)
            case "accept_session":
                self._accept_session(run, *arguments)
            case _:
                self._unmount(run, *arguments)

    def _done(self, run: int) -> None:
        self._around.tell(core.PlaneDone(run, self._behind))
        self._long.popleft()
        if self._long:
            self._begin()

    def _fault(self, run: int, error: int, text: str) -> None:
        self._around.tell(core.PlaneFault(run, error, text))
        self._long.popleft()
        if self._long:
            self._begin()

    def _mount_lead(self, run: int, term: int, map_base: str) -> None:
        disk = self._disk
        self._aborted = False
        self.carrier.gate.set(gate.OFF)
        self.carrier.gate.set(gate.FROZEN)
        self.role, self.term = "lead", term
        if self._around.received_suffices:
            try:
                disk.flush(disk.order)
            except OSError as fault:
                self.role = "off"
                self.carrier.gate.set(gate.OFF)
                self._fault(run, fault.errno or errno.EIO, str(fault))
                return
        found = _take_map(disk, map_base)
        self.carrier.reset(found, map_base if found is not None else "")
        self._done(run)

    def _mount_follow(self, run: int) -> None:
        self._aborted = False
        self.role = "follow"
        self._disk.name(map_file=b"")
        around = self._around
        follower = SimFollower(self._disk, around.wrote, around.kept, self._copied, self._refused)
        self._follower = follower
        target: Target

        def arrived(batch: list[list[bytes]]) -> None:
            if self.target is target:
                target.take(batch)

        link = Link(None, "", StreamKeys(), self._around.timeout_ns)  # type: ignore[arg-type]
        target = Target(
            link,
            follower,
            received_suffices=self._around.received_suffices,
            wire=self._around.listen(arrived),
            flushers=Later(lambda call: self._around.after(self._around.flush_ns(), call)),
        )
        self.target = target
        self._done(run)

    def _accept_session(self, run: int, term: int, sid: int, quarantine: str) -> None:
        assert self.target is not None, "only while following"
        assert self._follower is not None, "only while following"
        self.target.accept(0, 0)
        self._follower.aside = quarantine
        self.term = term
        self.target.accept(term, sid)
        self._done(run)

    def _unmount(self, run: int, clean: bool, stays: bool) -> None:
        del stays  # What is left dead answers nobody, just as what is not mounted.
        leading = self.role == "lead"
        self._behind = False
        if self.target is not None:
            self.target.close()
            self.target = self._follower = None
        if leading and not clean:
            self._abort()
        frozen = leading and self.carrier.gate.mode == gate.FROZEN
        if leading and clean and (frozen or self._open or self._entering) and not self._aborted:
            # Writes under way get some time; then they end with errors.
            limit = _FROZEN_NS if frozen else _DRAIN_NS
            self._when(lambda: not (self._open or self._entering), limit, self._drain, run, clean)
        else:
            self._drain(run, clean)

    def _drain(self, run: int, clean: bool) -> None:
        """The file system is off: have the session carry what it was given."""
        leading, session = self.role == "lead", self.session
        if self._open or self._entering:
            self._abort()
        if not leading:
            self._end(run, clean, flushed=True)
        elif session is None or not clean or self._aborted:
            self._behind = not (clean and not self._aborted) or bool(self.carrier.marks.snapshot())
            self._end(run, clean, flushed=False)
        else:
            self._when(
                lambda: session.source.drained(0) or bool(session.source.broken),
                _DRAIN_NS,
                self._drained,
                run,
                session,
            )

    def _drained(self, run: int, session: SimSession) -> None:
        self._behind = not session.source.drained(0)
        if not self._around.received_suffices or self._behind:
            self._end(run, clean=True, flushed=not self._behind)
            return
        done: list[bool] = []
        session.flush(lambda: done.append(True))

        def end(_: int) -> None:
            self._behind = not done
            self._end(run, clean=True, flushed=bool(done))

        self._when(lambda: bool(done or session.source.over), _DRAIN_NS, end, 0)

    def _end(self, run: int, clean: bool, *, flushed: bool) -> None:
        del flushed
        disk, leading = self._disk, self.role == "lead"
        whole = clean and not self._aborted
        self._close_session()
        self.role = "off"
        if whole:
            try:
                disk.flush(disk.order)
            except OSError as fault:
                self.carrier.gate.set(gate.OFF)
                self._behind = leading
                self._fault(run, fault.errno or errno.EIO, str(fault))
                return
        if leading:
            self.carrier.gate.set(gate.OFF)
            base = self.carrier.marks.trusted
            if whole and base:
                disk.name(map_file=changes.dump(self.carrier.marks.snapshot(), base, _ROOTS))
        self._done(run)

    def _when(
        self,
        condition: Callable[[], bool],
        limit_ns: int,
        then: Callable[..., None],
        *arguments: Any,
    ) -> None:
        """Go on when the condition holds, or the time is over."""
        if condition() or limit_ns <= 0:
            then(*arguments)
            return
        self._around.after(
            _LOOK_NS, lambda: self._when(condition, limit_ns - _LOOK_NS, then, *arguments)
        )

    # --- at once ---------------------------------------------------------------------------

    def _abort(self) -> None:
        self._aborted = True
        self.carrier.gate.end()
        self._pump()

    def _set_gate(self, run: int, term: int, mode: str, base: str, *, new: bool) -> None:
        self.term = term
        trusted = self.carrier.set_gate(mode, base, new=new)
        session = self.session
        if mode != gate.BOTH or session is None:
            counted = mode == gate.FROZEN and bool(trusted)
            number = self.carrier.changes() if counted else -1
            self._around.tell(core.PlaneGated(run, trusted, number))
        else:
            self._report_both(run, trusted, session, session.source.last)
        self._pump()

    def _report_both(self, run: int, trusted: str, session: SimSession, last: int) -> None:
        """Report `both` when the target has all that was ever answered without it."""
        if session.source.reached(last, 0):
            self._around.tell(core.PlaneGated(run, trusted))
        elif not session.source.over and self.session is session:
            self._around.after(_LOOK_NS, lambda: self._report_both(run, trusted, session, last))

    def _open_session(self, term: int, sid: int, plan: str, peer: str) -> None:
        del peer
        self._close_session()
        if plan != "full" and not self._disk.scope:
            plan = "full"
        session = SimSession(self.carrier, self._around, copied=self._keep_scope, pump=self._pump)
        link = Link(None, "", StreamKeys(), self._around.timeout_ns)  # type: ignore[arg-type]
        source = Source(
            link,
            (term, sid, self._around.nonce()),
            session,
            self._around.clock,
            wire=self._around.dial(session.take),
        )
        self.session = session
        session.start(source, plan)
        self._pump()

    def _close_session(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.close()

    def break_session(self, reason: str) -> None:
        """A fault: the stream is given up."""
        if self.session is not None:
            self.session.source.give_up(reason)
            self.session.take([])

    def fail_storage(self, event: core.PlaneStorage) -> None:
        """A fault: the disk refused a write, a flush, or what a session brought."""
        target = self.target
        if self.role == "lead":
            self.carrier.gate.poison()
        elif target is not None and target.session[1]:
            target._fail(event.error, event.text)  # As if a frame could not be applied.
            return
        self._around.tell(event)

    # --- news ------------------------------------------------------------------------------

    def _lost(self, error: int, where: str) -> None:
        self._around.tell(core.PlaneStorage(where, error, "input/output error"))

    def _refused(self, error: int, text: str) -> None:
        self._around.tell(core.PlaneStorage("data", error, text))

    def _copied(self, term: int, sid: int) -> None:
        self._keep_scope()
        self._around.tell(core.PlaneCopied(term, sid))

    def _keep_scope(self) -> None:
        self._disk.name(scope=True)

    # --- the file system -------------------------------------------------------------------

    def write(self, extent: int, write: int, answer: Answer) -> None:
        """The application writes to a file and flushes it; `answer` gets an errno, 0: done."""
        self._entering.append((extent, write, answer))
        self._pump()

    def _pump(self) -> None:
        """Let in what the gate allows, in order."""
        entering = self._entering
        while entering:
            try:
                if not self.carrier.gate.try_enter():
                    return
            except OSError as fault:
                entering.popleft()[2](fault.errno or errno.EIO)
                continue
            self._write(*entering.popleft())
            self.carrier.leave()

    def _write(self, extent: int, write: int, answer: Answer) -> None:
        disk, carrier, node = self._disk, self.carrier, file_of(extent)
        try:
            short = disk.write(extent, write)
        except OSError as fault:
            if fault.errno != errno.ENOSPC:  # That is the application's own business.
                carrier.local_failed(fault.errno or errno.EIO, "data")
            answer(fault.errno or errno.EIO)
            return
        self._around.wrote(extent, write, self.term, 0)
        data = memoryview(write.to_bytes(8, "little"))
        carrier.write(Write(0, node, zone_of(extent) * ZONE_BYTES, 8, 0), data)
        if short:  # What was written counts, and there is more that was not.
            answer(short)
            return
        ticket = carrier.fsync(Fsync(0, node, True))
        self._open += 1
        until = disk.order

        def done(result: int) -> None:
            self._open -= 1
            answer(result)

        def flush() -> None:
            try:
                disk.flush(until)
            except OSError as fault:
                carrier.local_failed(fault.errno or errno.EIO, "data")
                done(fault.errno or errno.EIO)
            else:
                carrier.when_safe(ticket, done)

        self._around.after(self._around.disk_ns(), flush)


def _take_map(disk: Extents, base: str) -> changes.ChangeMap | None:
    """Read the change map and delete it; None: there is none of this beginning."""
    data = disk.map_file
    disk.name(map_file=b"")
    if not data:
        return None
    try:
        found, since, roots = changes.load(data)
    except RecordInvalid:
        return None
    return found if base and since == base and roots == _ROOTS else None
