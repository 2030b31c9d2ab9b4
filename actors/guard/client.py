"""Start the guard, keep it alive, and give it its deadline.

The module's process and its guard share a socket pair and nothing else. A guard that dies is
replaced at once and given the same deadline; should that have passed, the new one acts at once.
"""

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from mirrorfarm.actors.cgroup import Cgroup
from mirrorfarm.actors.effects import GuardOrder
from mirrorfarm.actors.events import GuardActed
from mirrorfarm.actors.guard import process
from mirrorfarm.actors.shell import Inbox
from mirrorfarm.oserrors import told
from mirrorfarm.paths import Paths

PROGRAM: Final = str(Path(process.__file__).resolve())
ANSWER_BYTES_MAX: Final = 4_096
FORERUNNER_SECONDS: Final = 4  # More than the guard takes to end an application.
RESTART_SECONDS: Final = 0.2
CLOSE_SECONDS: Final = 3


class GuardClient:
    """Performs GuardOrder for one module; GuardActed goes to the inbox."""

    def __init__(
        self,
        module: str,
        paths: Paths,
        cgroup: Cgroup,
        *,
        addresses: tuple[str, ...],
        inbox: Inbox,
        log: Callable[[str, str], None],
    ) -> None:
        """Take what the guard has to fence: `cgroup`, which was created, and `addresses`.

        Raise ValueError for what is no IPv4 or IPv6 address: the guard could not remove it.
        """
        self._pid_file = paths.run / f"guard-{module}.pid"
        self._cgroup = cgroup
        self._addresses = tuple(str(ip_address(address)) for address in addresses)
        self._inbox = inbox
        self._log = log
        self._lock = threading.Lock()
        self._deadline_ns = 0
        self._acted_since = False  # And neither a newer order nor the end of the application came.
        self._closing = False
        self._channel: socket.socket
        self._process: subprocess.Popen[bytes]
        self._stuck: subprocess.Popen[bytes] | None = None  # A guard that was ended for it.
        self._thread = threading.Thread(target=self._listen, name="guard-listener", daemon=True)

    @property
    def pid(self) -> int:
        """The guard's process."""
        return self._process.pid

    def start(self) -> None:
        """Start the guard; where an earlier process left an armed one, fence at once instead.

        The application that guard watches over is the earlier process's; ours starts afresh.
        Were it left waiting, it would end our application at its deadline.
        """
        forerunners = self._forerunners()
        self._spawn()
        # Should we end while ours acts, whoever comes then must know of all of them.
        self._note(self.pid, *forerunners)
        if forerunners:
            self._relieve(forerunners.values())
            self._note(self.pid)
        self._thread.start()

    def order(self, order: GuardOrder) -> None:
        """Give the guard its deadline, or none."""
        with self._lock:
            self._deadline_ns = order.deadline_ns
            self._acted_since = False
            self._send_deadline()

    def is_over(self) -> bool:
        """Return whether the right to act is over, so that no application may start.

        Takes no lock: usable after a fork. A process that asks this once it is in the
        application's control group, and goes on, is ended by the guard when the right ends.
        """
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return self._acted_since or 0 < self._deadline_ns <= now

    def application_ends(self) -> None:
        """Hear that the application is ended by order: whatever starts later was decided later."""
        with self._lock:
            if self._acted_since:
                self._acted_since = False
                self._send_deadline()  # The guard, too, lets be what is set from now on.

    def close(self) -> None:
        """End the guard. One that is armed stays until it has acted: nobody moves its deadline.

        Who stopped in good order has disarmed it. Otherwise the application may still run here
        when the peer takes over.
        """
        with self._lock:
            self._closing = True
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)
            if self._deadline_ns:
                return
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():  # Stopped by somebody, it does not hear us.
            self._process.kill()
            self._thread.join()
        self._pid_file.unlink(missing_ok=True)

    def _spawn(self) -> None:
        """Start a guard and tell it all; OSError: there is none."""
        with ExitStack() as failed, ExitStack() as passed:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failed.callback(ours.close)
            passed.callback(its.close)
            directory = self._cgroup.open_directory()
            passed.callback(os.close, directory)
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-I", PROGRAM, str(its.fileno()), str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(its.fileno(), directory),
                cwd="/",
                env={},
                start_new_session=True,
            )
            failed.pop_all()
        self._channel = ours
        self._send(f"addresses {' '.join(self._addresses)}")
        self._send_deadline()

    def _note(self, *guards: int) -> None:
        """Leave the numbers of guards to the process that comes after this one."""
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._pid_file.with_name(f"{self._pid_file.name}.new")
        fresh.write_text("".join(f"{guard}\n" for guard in guards))
        fresh.replace(self._pid_file)

    def _send_deadline(self) -> None:
        self._send(f"arm {self._deadline_ns}" if self._deadline_ns else "disarm")

    def _send(self, text: str) -> None:
        try:
            self._channel.send(text.encode(), socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._end_stuck()
        except OSError:  # It just died: its successor hears it.
            return

    def _end_stuck(self) -> None:
        """End a guard that stands still: its successor fences, and knows the present deadline."""
        if self._stuck is not self._process:
            self._stuck = self._process
            self._log("C", "The guard takes no orders any more: it is ended, to be replaced")
            self._process.kill()

    def _listen(self) -> None:
        while True:
            answer = self._hear()
            if answer.startswith("acted "):
                self._acted(*(int(word) for word in answer.split()[1:]))
            elif not answer and not self._replace():
                return

    def _hear(self) -> str:
        try:
            return self._channel.recv(ANSWER_BYTES_MAX).decode()
        except OSError:
            return ""

    def _acted(self, deadline_ns: int, left: int) -> None:
        with self._lock:
            if self._deadline_ns == deadline_ns:
                self._deadline_ns = 0
                self._acted_since = True
        if left:
            self._log("C", f"The guard killed the application, but {left} processes do not end")
        self._inbox(GuardActed(deadline_ns))

    def _replace(self) -> bool:
        """Clean up after a guard that ended; start its successor unless we asked for the end."""
        code = self._process.wait()
        for attempt in itertools.count():
            with self._lock:
                self._channel.close()
                if self._closing:
                    return False
                fault = self._try_spawn()
            if not fault:
                break
            if not attempt:
                text = f"The guard ended with {code} and cannot be replaced: {fault}: tried again"
                self._log("C", f"{text}; until then nothing fences this node, should it hang")
            time.sleep(RESTART_SECONDS)
        self._log("C", f"The guard ended with {code}: another one took over")
        try:
            self._note(self.pid)
        except OSError as error:
            self._log("C", f"The next process will not find this guard: {told(error)}")
        time.sleep(RESTART_SECONDS)  # Should they all end at once, let it cost little.
        return True

    def _try_spawn(self) -> str:
        """Start a guard; return why there is none, or nothing."""
        try:
            self._spawn()
        except OSError as error:  # No process, memory or descriptor to be had.
            return told(error)
        return ""

    def _forerunners(self) -> dict[int, int]:
        """Return the guards that earlier processes left: a descriptor for each number."""
        try:
            numbers = [int(word) for word in self._pid_file.read_text().split()]
        except (OSError, ValueError):
            return {}
        found = {number: _open_guard(number) for number in numbers}
        return {number: guard for number, guard in found.items() if guard >= 0}

    def _relieve(self, forerunners: Iterable[int]) -> None:
        """Have our guard do now what the earlier ones would do later; then end those."""
        self._log("E", "A guard of an earlier process is still there: ours acts in its place")
        self._channel.settimeout(FORERUNNER_SECONDS)
        self._send("arm 1")
        while (answer := self._hear()) and not answer.startswith("acted "):
            pass
        self._channel.settimeout(None)
        self._send_deadline()  # What was the earlier process's is over.
        for forerunner in forerunners:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(forerunner, signal.SIGKILL)
            os.close(forerunner)


def _open_guard(number: int) -> int:
    """Return a descriptor of a guard; -1: it ended, and the number may be a stranger's since."""
    try:
        guard = os.pidfd_open(number)
    except (OSError, ValueError):
        return -1
    with suppress(OSError):
        if PROGRAM.encode() in Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0"):
            return guard
    os.close(guard)
    return -1
