"""First process of a lab node: mounts its private folders, starts the agent, reaps, restarts.

Standard library only, run by path. `enter` puts the caller into control groups and becomes
another program; `run` is the first process of the node's namespaces. It is steered by signals:
TERM ends the node, USR1 stops the daemon and leaves it stopped, USR2 starts it again. When the
lab that started it is gone, its pipe closes and the node ends by itself.
"""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

RESTART_SECONDS = 0.2  # What systemd waits by default is 0.1 s; the units ask for 0.2 s.
STOP_SECONDS = 10.0
MS_BIND = 4096
MS_REC = 16384


def mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    """Mount, or raise OSError with the target's name."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, None):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def prepare(config: dict[str, Any]) -> None:
    """Give the node its own host name, control groups, folders, /run and boot identity."""
    socket.sethostname(config["node"])
    for source, target in config["groups"]:
        mount(source, target, flags=MS_BIND)
    for source, target in config["folders"]:
        mount(source, target, flags=MS_BIND | MS_REC)
    mount("tmpfs", "/run", "tmpfs")
    for folder in ("/run/lock", "/run/postgresql"):
        Path(folder).mkdir(mode=0o777)
        Path(folder).chmod(0o1777)
    connections = Path("/sys/fs/fuse/connections")
    if connections.is_dir() and not os.path.ismount(connections):
        mount("fusectl", str(connections), "fusectl")
    mount(config["boot_id"], "/proc/sys/kernel/random/boot_id", flags=MS_BIND)


class Supervisor:
    """Starts the node's daemon again whenever it ends, as systemd would, until told not to."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.argv: list[str] = config["argv"]
        self.environment: dict[str, str] = config["environment"]
        self.log: str = config["log"]
        self.daemon: subprocess.Popen[bytes] | None = None
        self.wanted: bool = config["start"]
        self.ending = False

    def start(self) -> None:
        """Start the daemon with its output in the node's log."""
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                self.argv,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def obey(self, signals: bytes) -> None:
        """Do what the signals ask."""
        for number in signals:
            if number == signal.SIGTERM:
                self.ending = True
            elif number == signal.SIGUSR1:
                self.wanted = False
            elif number == signal.SIGUSR2:
                self.wanted = True
        if (self.ending or not self.wanted) and self.daemon:
            self.daemon.terminate()

    def reap(self) -> None:
        """Collect ended processes: the daemon, and orphans, which become ours."""
        if self.daemon and self.daemon.poll() is not None:
            self.daemon = None
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not ended:
                return
            if self.daemon and ended == self.daemon.pid:
                self.daemon.returncode = os.waitstatus_to_exitcode(status)
                self.daemon = None

    def run(self, lab: int) -> None:
        """Serve until TERM or until the lab at the other end of pipe `lab` is gone."""
        signals, wakeup = os.pipe()
        os.set_blocking(signals, False)
        os.set_blocking(wakeup, False)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wakeup)
        if self.wanted:
            self.start()
        while not self.ending or self.daemon:
            restart = self.wanted and self.daemon is None
            timeout = RESTART_SECONDS if restart else STOP_SECONDS if self.ending else None
            readable, _, _ = select.select([signals, lab], [], [], timeout)
            if lab in readable or (self.ending and not readable):
                return
            self.obey(os.read(signals, 256) if signals in readable else b"")
            self.reap()
            if restart and not readable and self.wanted:
                self.start()


def enter(groups: list[str], argv: list[str]) -> None:
    """Join the control groups, then become `argv`."""
    for group in groups:
        Path(group, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    os.execvp(argv[0], argv)


def main(argv: list[str]) -> None:
    """Run `enter GROUP… -- COMMAND…` or `run CONFIG.json LAB_FD`."""
    if argv[0] == "enter":
        end = argv.index("--")
        enter(argv[1:end], argv[end + 1 :])
    config = json.loads(Path(argv[1]).read_text(encoding="utf-8"))
    prepare(config)
    Path(config["ready"]).touch()
    Supervisor(config).run(int(argv[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
