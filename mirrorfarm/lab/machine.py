"""One lab machine: its namespaces, its disk, its first process; power on, power cut."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirrorfarm.errors import SystemUnsuitable, TimedOut

INIT = Path(__file__).with_name("init.py")
GROUPS = Path("/sys/fs/cgroup")
# Folders that every machine has to itself, whatever the host has there.
PRIVATE = ("/var/lib", "/srv")
DEATH_SECONDS = 60.0
# What a process of a node is, by the end of the module or file that Python runs.
ROLES = {
    "mirrorfarm.module_process": "module",
    "actors.replicator.process": "replica",
    "actors.guard.process": "guard",
}
DAEMONS = ("agent", "witness")


def hierarchies() -> list[Path]:
    """Return the mounted control-group hierarchies that a machine gets a share of."""
    if (GROUPS / "cgroup.procs").exists():
        return [GROUPS]
    names = ("freezer", "pids", "memory", "systemd", "unified")
    return [GROUPS / name for name in names if (GROUPS / name / "cgroup.procs").exists()]


def remove_group(group: Path) -> bool:
    """Thaw and delete a control group and those in it; False while a process is left in one."""
    folders = [path for path in group.rglob("*") if path.is_dir()]
    for folder in [*sorted(folders, reverse=True), group]:
        with contextlib.suppress(OSError):
            (folder / "freezer.state").write_text("THAWED", encoding="ascii")
        with contextlib.suppress(OSError):
            folder.rmdir()
    return not group.exists()


@dataclass
class Machine:
    """A node or the witness. `folder` holds its disk and outlives its power."""

    name: str
    namespace: str
    folder: Path
    argv: tuple[str, ...]  # Its daemon.
    private: tuple[str, ...] = PRIVATE
    process: subprocess.Popen[bytes] | None = None
    lab: int = -1  # Our end of the pipe whose closing ends the machine.
    init: int = 0  # Its first process, as the host numbers it.
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "daemon.log"
        for name in self.private:
            self.disk(name).mkdir(parents=True, exist_ok=True)
        (self.folder / "root").mkdir(exist_ok=True)

    @property
    def root(self) -> Path:
        """Return MIRRORFARM_ROOT of the machine."""
        return self.folder / "root"

    @property
    def groups(self) -> list[Path]:
        """Return the machine's control groups, one per hierarchy."""
        return [hierarchy / self.namespace for hierarchy in hierarchies()]

    def disk(self, path: str) -> Path:
        """Return where the host sees `path` of the machine, which must be a private folder."""
        return self.folder / "disk" / path.lstrip("/")

    def environment(self) -> dict[str, str]:
        """Return the environment of every process of the machine."""
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        return os.environ | {"MIRRORFARM_ROOT": str(self.root), "PATH": path}

    @property
    def on(self) -> bool:
        """Whether the power is on."""
        return self.process is not None and self.process.poll() is None

    def start(self, daemon: bool = True, seconds: float = 60.0) -> None:
        """Switch the power on: nothing of before is left but the disk. No effect when on.

        Raises SystemUnsuitable if the first process cannot start.
        """
        if self.on:
            return
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        for group in self.groups:
            group.mkdir(exist_ok=True)
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        self.empty_run()
        config = self.folder / "init.json"
        config.write_text(json.dumps(self.config(ready, daemon)), encoding="utf-8")
        theirs, self.lab = os.pipe()
        try:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command(config, theirs),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs,),
                    start_new_session=True,
                )
        finally:
            os.close(theirs)
        self.await_ready(ready, seconds)

    def command(self, config: Path, pipe: int) -> list[str]:
        """Return the command that makes the namespaces and starts the first process."""
        python = [sys.executable, "-I", "-S", str(INIT)]
        return [
            *[*python, "enter", *map(str, self.groups), "--"],
            *["nsenter", f"--net=/run/netns/{self.namespace}"],
            *["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc"],
            *["--propagation", "private", "--cgroup", "--uts", "--ipc"],
            *[*python, "run", str(config), str(pipe)],
        ]

    def config(self, ready: Path, daemon: bool) -> dict[str, Any]:
        """Return what the first process must know."""
        return {
            "node": self.name,
            "argv": list(self.argv),
            "environment": self.environment(),
            "log": str(self.log),
            "ready": str(ready),
            "start": daemon,
            "boot_id": str(self.folder / "boot_id"),
            "groups": [[str(group), str(group.parent)] for group in self.groups],
            "folders": [[str(self.disk(name)), name] for name in self.private],
        }

    def await_ready(self, ready: Path, seconds: float) -> None:
        """Wait until the first process has mounted everything."""
        assert self.process
        deadline = time.monotonic() + seconds
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-800:]
                self.kill()
                raise SystemUnsuitable(f"lab machine {self.name} does not start: {tail}")
            time.sleep(0.005)
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        self.init = int(children.split()[0])

    def empty_run(self) -> None:
        """Empty run/, which a real machine has in memory."""
        run = self.root / "run"
        for path in sorted(run.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)

    def kill(self) -> None:
        """Cut the power: every process of the machine ends at once. No effect when off."""
        if self.lab >= 0:
            os.close(self.lab)
            self.lab = -1
        if self.init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
            self.init = 0
        if self.process:
            self.process.kill()  # `unshare`; its child dies with it.
            deadline = time.monotonic() + DEATH_SECONDS
            while self.process.poll() is None or not self.remove_groups():
                if time.monotonic() > deadline:
                    raise TimedOut(f"lab machine {self.name}: processes outlive their kill")
                time.sleep(0.005)
            self.process = None

    def remove_groups(self) -> bool:
        """Thaw and delete the control groups; False while a process is still ending in one."""
        return all([remove_group(group) for group in self.groups])

    def signal(self, number: signal.Signals) -> None:
        """Steer the first process: USR1 stops the daemon for good, USR2 starts it, TERM ends."""
        if self.init:
            os.kill(self.init, number)

    def inside(self, argv: list[str]) -> list[str]:
        """Return the command that runs `argv` inside the machine; it must be on."""
        if not self.init:
            raise SystemUnsuitable(f"lab machine {self.name} is off: start_node first")
        spaces = ("--net", "--mount", "--pid", "--cgroup", "--uts", "--ipc")
        return ["nsenter", "--target", str(self.init), *spaces, "--wd=/", "--", *argv]

    def run(self, argv: list[str], seconds: float = 120.0) -> "subprocess.CompletedProcess[str]":
        """Run a command inside the machine and return its outcome."""
        return subprocess.run(
            self.inside(argv),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def pids(self) -> dict[str, list[int]]:
        """Return the machine's processes by role, as the host numbers them."""
        roles: dict[str, list[int]] = {}
        if not self.init:
            return roles
        space = os.readlink(f"/proc/{self.init}/ns/pid")
        for path in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
            with contextlib.suppress(OSError):
                pid = int(path.name)
                if pid != self.init and os.readlink(path / "ns/pid") == space:
                    words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    roles.setdefault(role_of(words), []).append(pid)
        return roles


def role_of(words: list[str]) -> str:
    """Return what a process is: agent module replica guard witness command or application."""
    for place, word in enumerate(words[:8]):
        name = word.removesuffix(".py").replace("/", ".")
        for end, role in ROLES.items():
            if name.endswith(end):
                return role
        if name.endswith(("mirrorfarm.cli.main", "bin.mirrorfarm")):
            following = [*words[place + 1 :], ""][0]
            return following if following in DAEMONS else "command"
    return "application"
