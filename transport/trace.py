"""The trace of a process: every event its cores were given and every effect they asked for.

Records are made and written by a thread of their own, which sleeps while nothing happens; a
caller only appends to a queue. With the state of every core at its birth, and again in every
file, whoever has the trace can run the same cores again: `mirrorfarm trace replay`. The format
is described in docs/protocols/trace.md.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from mirrorfarm.actors import snapshot
from mirrorfarm.actors.effects import Send
from mirrorfarm.actors.shell import Visit
from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.oserrors import told
from mirrorfarm.transport.trace_ring import FILE_BYTES, FILES, Origin, Ring

QUEUE_STEPS_MAX: Final = 8_192
FLUSH_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 5.0  # A disk that hangs must not keep a process from its end,
BROKE_SECONDS: Final = 0.5  # even less one whose core broke.

TOO_SLOW: Final = "the disk takes steps more slowly than they come"
# Steps lost so far, and why no more can be written; an empty reason: it goes on.
OnLoss = Callable[[int, str], None]


@dataclass(slots=True)
class _Step:
    actor: str
    now: int
    event: Any
    effects: Sequence[Any]
    sent: list[int | None] = field(default_factory=list)  # Numbers of the frames of its messages.
    sends: int = 0  # How many of those there will be.


@dataclass(slots=True)
class _Checkpoint:
    actor: str
    now: int
    kind: str
    state: Any
    birth: bool


@dataclass(slots=True)
class _Note:
    now: int
    name: str
    values: tuple[Any, ...]


_Entry = _Step | _Checkpoint | _Note


def loss_words(lost: int, reason: str) -> str:
    """Return what is told when steps begin to be lost, or (no reason) are written again."""
    words = f"the trace is not written: {reason}" if reason else "the trace is written again"
    return f"{words}; {lost} steps lost"


class TraceWriter:
    """Writes the trace of one process into a ring of files in `folder`."""

    def __init__(
        self,
        folder: Path,
        origin: Origin,
        file_bytes: int = FILE_BYTES,
        files: int = FILES,
        on_loss: OnLoss | None = None,
    ) -> None:
        """Continue after the files that are there; a folder that cannot be used loses steps.

        `on_loss` is called, on a thread of the trace, when steps begin and cease to be lost.
        """
        self._folder = folder
        self._ring = Ring(folder, origin, file_bytes, files, late=True)
        self._on_loss = on_loss
        self._queue: deque[_Entry] = deque()
        self._open: dict[str, _Step] = {}  # By actor: the last step, whose effects are performed.
        self._cores: dict[str, Callable[[Any], None]] = {}  # By actor: its inbox.
        self._lamport = 0
        self._counts = dict.fromkeys(("steps", "dropped", "unreadable", "failed"), 0)
        self._lost = 0  # Steps missing before the next one in the queue.
        self._failing = ""  # Why nothing is written now.
        self._too_slow = False  # Steps were dropped since the last writing.
        self._begun = False  # The first file, or births that were lost.
        self._closing = False
        self._busy = False  # The writer knows that there is something to write.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="trace", daemon=True)
        self._thread.start()

    # --- for the threads of the cores ------------------------------------------------------

    def watch(self, actor: str, core: object, tell: Callable[[Any], None]) -> None:
        """Note with what state the core of `actor` begins; `tell` is the inbox of its shell."""
        self._cores[actor] = tell
        self._checkpoint(actor, core, birth=True)

    def step(self, actor: str, now: int, event: Any, effects: Sequence[Any]) -> None:
        """Note that the core of `actor` was given `event` at `now` and returned `effects`.

        Never waits for the disk: when the writer is too slow the step is dropped and counted.
        """
        step = _Step(actor, now, event, tuple(effects))
        for effect in effects:
            if type(effect) is Send:
                step.sends += 1
        with self._changed:
            self._open[actor] = step
            self._take(step)

    def sent(self, actor: str, number: int) -> None:
        """Note that the next message of the actor's last step left in the frame `number`."""
        step = self._open.get(actor)
        if step is not None:
            step.sent.append(number)

    def broke(self, actor: str, error: BaseException) -> None:
        """Note that the event of the actor's last step broke its core, and write all there is."""
        with self._changed:
            self._take(_Note(boot_clock_ns(), "broke", (actor, repr(error)[:400])))
        self.close(BROKE_SECONDS)

    def counters(self) -> dict[str, int]:
        """Return how many steps were noted, dropped, not representable, and failed to write."""
        return dict(self._counts)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write what is queued and end; give up after some seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _take(self, entry: _Entry) -> None:
        """Queue an entry. Under the lock."""
        if self._closing or len(self._queue) >= QUEUE_STEPS_MAX:
            self._counts["dropped"] += 1
            self._lost += 1
            if not (self._too_slow or self._closing):
                self._too_slow = True  # Told by a thread that does not wait for the disk.
                told = threading.Thread(target=self._tell_loss, args=(TOO_SLOW,), daemon=True)
                try:
                    told.start()
                except RuntimeError:  # No thread to be had: the next step that is lost tells it.
                    self._too_slow = False
            return
        if self._lost:
            self._queue.append(_Note(entry.now, "lost", (self._lost,)))
            self._lost = 0
        if type(entry) is _Step:
            self._counts["steps"] += 1
        self._queue.append(entry)
        if not self._busy or len(self._queue) == QUEUE_STEPS_MAX // 2:
            self._busy = True
            self._changed.notify()

    def _checkpoint(self, actor: str, core: object, birth: bool = False) -> None:
        entry = _Checkpoint(actor, boot_clock_ns(), type(core).__name__, snapshot.take(core), birth)
        with self._changed:
            self._take(entry)

    # --- the writer's thread ---------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # `top -H` shows what it costs.
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("trace")
        try:
            self._write_all()
        except Exception as error:  # A fault of its own: nobody else may suffer from it.
            with self._changed:
                self._closing = True
            self._tell_loss(f"its recorder broke: {error!r}")

    def _write_all(self) -> None:
        while True:
            with self._changed:
                # No timeout: an idle process is never woken for its trace.
                self._changed.wait_for(lambda: self._queue or self._closing)
                # Then gather a while, so that many steps share one writing.
                self._changed.wait_for(
                    lambda: self._closing or len(self._queue) >= QUEUE_STEPS_MAX // 2,
                    FLUSH_SECONDS,
                )
                ending = self._closing
                entries = self._whole(ending)
                self._busy = bool(self._queue)
            self._write(entries)
            if ending:
                with contextlib.suppress(OSError):
                    self._ring.flush(ends=True)
                return

    def _whole(self, ending: bool) -> list[_Entry]:
        """Take from the queue what precedes a step whose messages are just being sent.

        But only once: whoever performs effects may have failed, or not tell numbers.
        """
        entries = list(self._queue)
        self._queue.clear()
        if ending:
            return entries
        sending = [step for step in self._open.values() if len(step.sent) < step.sends]
        places = [place for place, entry in enumerate(entries) if any(entry is s for s in sending)]
        if places:
            self._queue.extend(entries[places[0] :])
            del entries[places[0] :]
        for step in sending:
            step.sends = 0
        return entries

    def _write(self, entries: list[_Entry]) -> None:
        steps = sum(type(entry) is _Step for entry in entries)
        after = self._lamport + steps
        try:
            for entry in entries:
                self._encode(entry)
            self._ring.flush()
        except Exception as error:  # A full disk ends the trace's growth, nothing else.
            self._ring.give_up()
            if isinstance(error, FileNotFoundError):  # Somebody removed its folder.
                with contextlib.suppress(OSError):
                    self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._begun = True  # What is lost may be births: the next file asks every core.
            self._counts["failed"] += steps
            self._lamport = max(self._lamport, after)  # The gap shows.
            self._tell_loss(told(error) if isinstance(error, OSError) else str(error))
        else:
            self._counts["unreadable"] = self._ring.encoder.unreadable
            with self._changed:
                keeps_up, self._too_slow = not self._too_slow, False
            if entries and keeps_up:
                self._tell_loss("")

    def _encode(self, entry: _Entry) -> None:
        encoder = self._ring.encoder
        if self._ring.ready(entry.now, self._lamport + 1):
            if self._begun:
                self._ask()  # In the first file each core's birth is queued.
            self._begun = True
        match entry:
            case _Step(actor, now, event, effects, sent):
                self._lamport += 1
                encoder.step(actor, now, event, effects, sent)
            case _Checkpoint(actor, _, kind, state, birth):
                encoder.checkpoint(actor, kind, state, birth)
            case _Note(_, name, values):
                encoder.note(name, *values)
                if name == "lost":
                    self._lamport += values[0]
                    self._ask()

    def _ask(self) -> None:
        """Have every core tell its state, so that it can be replayed from here on."""
        for actor, tell in list(self._cores.items()):
            with contextlib.suppress(Exception):  # It has ended.
                tell(Visit(partial(self._checkpoint, actor)))

    def _tell_loss(self, reason: str) -> None:
        """Say when steps begin to be lost, and when they are written again."""
        with self._changed:
            if bool(reason) == bool(self._failing):
                return
            self._failing = reason
        if self._on_loss is not None:
            with contextlib.suppress(Exception):  # The listener's fault.
                self._on_loss(self._counts["failed"] + self._counts["dropped"], reason)
