"""Run scripts as processes: no shell in between, in the module's control group from the start.

A script enters the group between fork and exec, so nothing it starts can be outside of it. There
it looks whether the right to act ended since it was ordered: this process may have stood still.
The code that runs there takes no lock, which makes it safe although this process has threads. One
thread waits for all ends, time limits and outputs; it sleeps as long as none of them comes.
"""

import errno
import os
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from mirrorfarm.actors.cgroup import Cgroup
from mirrorfarm.actors.effects import EndScript, KillScripts, StartScript
from mirrorfarm.actors.events import ApplicationGone, ScriptEnded
from mirrorfarm.actors.guard.client import GuardClient
from mirrorfarm.actors.scripts.output import LogWriter, Output, RunLog
from mirrorfarm.actors.scripts.program import environment, unfit
from mirrorfarm.actors.shell import Inbox
from mirrorfarm.descriptors import former_limits
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.oserrors import CURES, told
from mirrorfarm.paths import Paths

Logger = Callable[[str, str], None]  # Level and text, as the effect Log.

TERM_NS: Final = SECOND_NS  # Between SIGTERM and SIGKILL.
KILL_NS: Final = 5 * SECOND_NS  # After SIGKILL, until a script counts as ended regardless.
REST_NS: Final = 10 * MILLISECOND_NS  # Before output is read that is thrown away, or has to wait.
OUTPUTS_MAX: Final = 64
TOO_LATE: Final = "the right to act is over: the guard ended the application, or is about to"
KILL_AGAIN_S: Final = 1.0  # After a refusal of the kernel.
# Whoever starts an agent may have them ignored, as `nohup` and a shell's `&` do; it is inherited.
IGNORABLE: Final = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
WAIT_S_MAX: Final = 3_600.0  # The kernel takes no more than 24 days.


@dataclass(slots=True)
class _Running:
    run: int
    name: str
    process: subprocess.Popen[bytes]
    pidfd: int
    due_ns: int  # When the next signal is due.
    inbox: Inbox
    signals: int = 0  # How many were sent: SIGTERM, SIGKILL.
    timed_out: bool = True  # What a signal means, unless the script was ended by order.


class ScriptRunner:
    """Performs StartScript, EndScript and KillScripts for one module."""

    def __init__(
        self,
        settings: Module,
        node: str,
        paths: Paths,
        cgroup: Cgroup,
        log: Logger,
        *,
        guard: GuardClient | None = None,
    ) -> None:
        """Use `cgroup`, which was created; `log` may be called from several threads."""
        self._settings = settings
        self._bin = paths.module_etc(settings.name) / "bin"
        self._logs = paths.module_log(settings.name) / "scripts"
        self._environment = environment(settings, node, paths)
        self._limits = former_limits()
        self._cgroup = cgroup
        self._log = log
        self._guard = guard
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}
        self._outputs: dict[int, Output] = {}
        self._resting: dict[int, int] = {}  # Outputs not read before a time.
        self._closing = False
        self._writer = LogWriter()
        self._kill_lock = threading.Lock()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._wait, name="script-waiter", daemon=True)
        self._thread.start()

    def start(self, order: StartScript, inbox: Inbox) -> None:
        """Start a script; ScriptEnded follows, also when it cannot start."""
        script = self._bin / order.name
        if fault := unfit(script):
            inbox(ScriptEnded(order.run, order.name, 0, failure=fault))
            return
        try:
            self._begin(script, order, inbox)
        except OSError as error:
            self._not_begun(order, _why(script, error), inbox)
        except subprocess.SubprocessError:
            self._not_begun(order, self._why_not_entered(), inbox)

    def _not_begun(self, order: StartScript, why: str, inbox: Inbox) -> None:
        why = TOO_LATE if self._too_late(order.name) else why
        inbox(ScriptEnded(order.run, order.name, 0, failure=f"not run: {why}"))

    def _why_not_entered(self) -> str:
        """Return why a script did not get as far as its program: see `_enter`."""
        path = self._cgroup.path
        why = "cannot be entered" if path.exists() else "was removed"
        cure = f"`kill {os.getpid()}` has the module's process stop and begin anew, with a group"
        return f"the control group of the application, {path}, {why}: {cure}"

    def _begin(self, script: Path, order: StartScript, inbox: Inbox) -> None:
        """Start a script that is waited for from now on; OSError: nothing of it is left."""
        output = self._open_output(order)
        try:
            self._await_output(output)
            process = self._spawn(script, order, output.writer)
        finally:
            output.close_writer()  # The waiter closes the rest when nobody can write any more.
        try:
            self._await_end(order, process, inbox)
        except OSError:
            _end_group(process)
            raise
        self._rouse()

    def _await_output(self, output: Output) -> None:
        with self._lock:
            self._outputs[output.reader] = output
            try:
                self._epoll.register(output.reader, select.EPOLLIN)
            except OSError:
                del self._outputs[output.reader]
                output.close()
                raise

    def _await_end(
        self, order: StartScript, process: subprocess.Popen[bytes], inbox: Inbox
    ) -> None:
        due = _now() + order.timeout_ns
        pidfd = os.pidfd_open(process.pid)
        with self._lock:
            self._running[pidfd] = _Running(order.run, order.name, process, pidfd, due, inbox)
            try:
                self._epoll.register(pidfd, select.EPOLLIN)
            except OSError:
                del self._running[pidfd]
                os.close(pidfd)
                raise

    def end(self, order: EndScript) -> None:
        """Have the script's process group ended now; ScriptEnded follows."""
        with self._lock:
            for running in self._running.values():
                if (running.run, running.name) == (order.run, order.name) and not running.signals:
                    running.due_ns, running.timed_out = 0, False
        self._rouse()

    def kill(self, order: KillScripts, inbox: Inbox) -> None:
        """End every process of the group; ApplicationGone follows when none is left."""
        if self._guard is not None:
            self._guard.application_ends()
        threading.Thread(
            target=self._kill, args=(order.run, inbox), name="script-killer", daemon=True
        ).start()

    def close(self) -> None:
        """Stop waiting. Processes of the application go on."""
        self._closing = True
        self._rouse()
        self._thread.join()
        for output in self._outputs.values():
            output.close()
        self._writer.close()
        for running in self._running.values():
            os.close(running.pidfd)
            running.process.returncode = 0  # Nobody will wait for it: not an oversight.
        self._epoll.close()
        os.close(self._wake)

    def _open_output(self, order: StartScript) -> Output:
        words, log = " ".join(f'"{word}"' for word in order.arguments), None
        note = f"Script {order.name} {words}"
        if self._settings.script_log and len(self._outputs) < OUTPUTS_MAX:
            if self._writer.hangs:
                note += " (no log: the disk of the logs hangs)"
            else:
                log = RunLog(self._logs, order.name, order.arguments, self._not_kept(order.name))
                note += f" > {log.path.name}"
        self._log("S", note)
        return Output(self._writer, log, self._settings.script_log_bytes_max)

    def _not_kept(self, name: str) -> Callable[[str], None]:
        return lambda why: self._log("S", f"Script {name}: what it prints is not kept: {why}")

    def _spawn(self, script: Path, order: StartScript, writer: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(script), *order.arguments],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            cwd=self._bin,
            env=self._environment,
            umask=0o077,
            start_new_session=True,
            # Takes no lock: see the module's docstring.
            preexec_fn=partial(self._enter, order.name),  # noqa: PLW1509
        )

    def _too_late(self, name: str) -> bool:
        """Return whether the script may not begin any more; others than these start nothing."""
        return name.startswith("start_") and self._guard is not None and self._guard.is_over()

    def _enter(self, name: str) -> None:
        """Become an ordinary process of the group; runs in the child, before exec."""
        self._cgroup.add_self()
        if self._too_late(name):  # From here on the guard ends this process, too.
            raise TimeoutError
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        with suppress(OSError):
            score = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            os.write(score, b"0")
        for number in IGNORABLE:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _kill(self, run: int, inbox: Inbox) -> None:
        with self._kill_lock:
            while fault := self._try_to_kill():
                self._log("C", fault)
            inbox(ApplicationGone(run))

    def _try_to_kill(self) -> str:
        """End the processes of the group; return why some may be left, after some time."""
        try:
            left = self._cgroup.kill()
        except OSError as error:  # Whether one is left is not known: that is not the end of all.
            time.sleep(KILL_AGAIN_S)
            return f"Processes cannot be killed: {told(error)}; it is tried again and again"
        return f"Processes {left} do not end although killed: still waiting" if left else ""

    def _rouse(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _wait(self) -> None:
        while not self._closing:
            ready = self._epoll.poll(self._patience())
            for descriptor, _ in ready:
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
                elif descriptor in self._running:
                    self._ended(self._running[descriptor])
                else:
                    self._pump(descriptor)
            now = _now()
            self._signal_late(now)
            self._wake_resting(now)

    def _patience(self) -> float | None:
        """Return the seconds until something is due, or may be; None: nothing is."""
        with self._lock:
            times = [running.due_ns for running in self._running.values()]
        times += self._resting.values()
        if not times:
            return None
        # One nanosecond more: never wake just before, and then again.
        return min(max(0, min(times) - _now() + 1) / SECOND_NS, WAIT_S_MAX)

    def _ended(self, running: _Running) -> None:
        code = running.process.wait()
        self._forget(running)
        timed_out = running.timed_out and running.signals > 0
        running.inbox(ScriptEnded(running.run, running.name, code, timed_out))

    def _forget(self, running: _Running) -> None:
        with self._lock:
            del self._running[running.pidfd]
            self._epoll.unregister(running.pidfd)
            os.close(running.pidfd)

    def _signal_late(self, now: int) -> None:
        with self._lock:
            late = [running for running in self._running.values() if running.due_ns <= now]
        for running in late:
            running.signals += 1
            if running.signals > 2:  # In an uninterruptible call: the kernel holds it.
                self._log("C", f"Script {running.name} does not end although killed")
                running.process.returncode = -signal.SIGKILL
                self._forget(running)
                running.inbox(
                    ScriptEnded(running.run, running.name, -signal.SIGKILL, running.timed_out)
                )
                continue
            what, wait = (
                (signal.SIGTERM, TERM_NS) if running.signals == 1 else (signal.SIGKILL, KILL_NS)
            )
            running.due_ns = now + wait
            with suppress(ProcessLookupError):
                os.killpg(running.process.pid, what)

    def _pump(self, reader: int) -> None:
        output = self._outputs[reader]
        more = output.pump()
        if more and not output.rests:
            return
        self._epoll.unregister(reader)
        if more:
            self._resting[reader] = _now() + REST_NS
        else:
            with self._lock:
                del self._outputs[reader]
            output.close()

    def _wake_resting(self, now: int) -> None:
        for reader in [reader for reader, until in self._resting.items() if until <= now]:
            del self._resting[reader]
            self._epoll.register(reader, select.EPOLLIN)


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a script whose end could not be waited for, and what it started in its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _why(script: os.PathLike[str], error: OSError) -> str:
    text = error.strerror
    if isinstance(error, FileNotFoundError):
        text = "the interpreter named in its first line does not exist"
    elif error.errno == errno.ENOEXEC:
        text = "it has no first line such as #!/bin/sh, nor is it a program of this machine"
    elif error.errno == errno.EACCES:  # Of the script's own mode is told before.
        text = f"{text}: its file system is mounted noexec, or its interpreter is not executable"
    elif error.errno in CURES:
        text = f"{text}: {CURES[error.errno]}"
    return f"{script}: {text}"
