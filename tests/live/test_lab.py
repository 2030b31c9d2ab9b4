"""The lab itself: its machines die as a whole and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.machine import hierarchies

pytestmark = pytest.mark.live


def left_behind(prefix: str) -> list[str]:
    """Return what is left of a lab on this machine."""
    places = [Path("/run/netns"), Path("/tmp"), *hierarchies()]
    return [str(path) for place in places for path in place.glob(f"{prefix}-*")]


def reaches(lab: OneMachine, source: str, address: str) -> bool:
    code = (
        "import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_STREAM); s.settimeout(0.3)\n"
        "try: s.connect((sys.argv[1], 9))\n"
        "except ConnectionRefusedError: print('reached')\n"
        "except OSError: print('silence')\n"
    )
    out = lab.run(source, ["/usr/bin/python3", "-I", "-c", code, address]).stdout
    assert out in {"reached\n", "silence\n"}
    return out == "reached\n"


def await_reach(lab: OneMachine, source: str, address: str) -> None:
    """Wait until an address is reached: a switch takes a moment to use a cable."""
    deadline = time.monotonic() + 30
    while not reaches(lab, source, address):
        assert time.monotonic() < deadline, f"{source} does not reach {address}"


def test_a_power_cut_ends_every_process_and_keeps_the_disk() -> None:
    with OneMachine(witness=False, networks=("default", "repli")) as lab:
        prefix = lab.wiring.prefix
        script = (
            "mkdir -p /var/lib/data; echo kept > /var/lib/data/file;"
            "mkdir /sys/fs/cgroup/freezer/app;"
            "setsid sh -c 'echo $$ > /sys/fs/cgroup/freezer/app/cgroup.procs; exec sleep 600'"
            " >/dev/null 2>&1 &"
            "until grep -q . /sys/fs/cgroup/freezer/app/cgroup.procs; do sleep 0.01; done;"
            "echo FROZEN > /sys/fs/cgroup/freezer/app/freezer.state; cat"
            " /proc/sys/kernel/random/boot_id; hostname"
        )
        first = lab.run("n1", ["sh", "-c", script]).stdout.split()
        assert first[1] == "n1"
        application = lab.pids("n1")["application"]
        assert application
        lab.kill_node("n1")
        assert not [pid for pid in application if Path(f"/proc/{pid}").exists()]
        with pytest.raises(SystemUnsuitable, match="is off"):
            lab.run("n1", ["true"])
        lab.machines["n1"].start(daemon=False)
        words = ["cat", "/var/lib/data/file", "/proc/sys/kernel/random/boot_id"]
        kept, boot = lab.run("n1", words).stdout.split()
        assert kept == "kept"
        assert boot != first[0]
        assert "data" not in lab.run("n2", ["ls", "/var/lib"]).stdout
    assert not left_behind(prefix)


@pytest.mark.parametrize("carrier", [False, True])
def test_a_cut_cable_stops_packets_until_it_is_mended(carrier: bool) -> None:
    with OneMachine(witness=False, networks=("default", "repli")) as lab:
        await_reach(lab, "n1", "198.18.0.2")
        lab.cut("n2", "default", carrier=carrier)
        assert not reaches(lab, "n1", "198.18.0.2")
        await_reach(lab, "n1", "198.18.1.2")
        up = "LOWER_UP" in lab.run("n2", ["ip", "-br", "link", "show", "eth0"]).stdout
        assert up == carrier
        lab.mend("n2", "default", carrier=carrier)
        await_reach(lab, "n1", "198.18.0.2")
        with lab.as_client():
            done = subprocess.run(["ip", "-br", "addr"], capture_output=True, text=True, check=True)
        assert "198.18.0.200" in done.stdout


def fail_in_the_middle() -> None:
    with OneMachine(witness=False) as lab:
        assert left_behind(lab.wiring.prefix)
        raise ZeroDivisionError(lab.wiring.prefix)


def test_a_lab_removes_everything_when_its_user_fails() -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        fail_in_the_middle()
    assert not left_behind(str(failure.value))


@pytest.mark.parametrize(
    ("lab", "process"),
    [
        ("cluster.OneMachine(witness=False)", "lab.machines['n1'].init"),
        ("farm.farm('nft', 'vmac_invisible')", "lab.nodes[0].service.pid"),
    ],
)
def test_machines_end_when_their_lab_is_killed(lab: str, process: str) -> None:
    code = (
        "import time; from mirrorfarm.lab import cluster, farm\n"
        f"with {lab} as lab:\n"
        f"    print(lab.wiring.prefix, {process}, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        prefix, init = run.stdout.readline().split()
        assert Path(f"/proc/{init}").exists()
        os.kill(run.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{init}").exists():
        assert time.monotonic() < deadline, "it outlives its lab"
        time.sleep(0.01)
    with OneMachine(witness=False):  # Building the next one sweeps up.
        assert not left_behind(prefix)
