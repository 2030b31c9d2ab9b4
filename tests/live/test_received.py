"""`async="second"` on a real pair: what the secondary confirms before its disk has it."""

import os
import signal
import sys
from typing import Any

import pytest

from mirrorfarm.limits import SECOND_NS
from tests.live.fault_disk import order
from tests.live.fault_work import Client, Lab, faulty, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


class ReceivedLab(Lab):
    """Acknowledged when received."""

    def userconfig(self, *, vips: Any = None, service: str = "") -> str:
        text = super().userconfig(vips=vips, service=service)
        assert text.count("<rfs>") == 1
        return text.replace("<rfs>", '<rfs async="second">')


LAB = ReceivedLab


FILES = 20
WORK = f"""
import os, sys
for number in range({FILES}):
    file = os.open(f"{{sys.argv[1]}}/file{{number}}", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"x" * 5_000)
    os.fsync(file)
    os.close(file)
print("all are told")
"""


def test_the_application_does_not_wait_for_the_flush_of_the_secondary(lab: Lab) -> None:
    """One file each: a flush that is withheld blocks further writes of the same file."""
    lab.together()
    with faulty(lab, "n2", "/var/lib") as control:
        order(control, "fsync hold\n")
        told = lab.run("n1", [sys.executable, "-c", WORK, "/var/lib/ledger"])
        assert told.stdout == "all are told\n"
        roles = (lab.role("n1"), lab.role("n2"))
        assert roles == ("PRIM Ready", "SECOND Ready"), lab.story("n1")
        disk = lab.machines["n2"].disk("/var/lib/ledger")
        until(lambda: len(list(disk.glob("file*"))) == FILES, 60, lambda: str(list(disk.iterdir())))
        order(control, "fsync eio\n")  # Found out later, and believed all the same.
        lab.wait_state("n1", "ALONE", 60)
        assert "Input/output error" in lab.await_words("n2", "cannot be trusted", 60)


def test_a_secondary_whose_processes_died_counts_as_in_sync(lab: Lab, client: Client) -> None:
    client.go_on(60)
    before = lab.pids("n2")
    os.kill(lab.machines["n1"].init, signal.SIGKILL)  # Before n2 can see that n1 is gone.
    for role in ("agent", "module", "replica"):
        os.kill(before[role][0], signal.SIGKILL)
    lab.kill_node("n1")
    lab.wait_state("n2", "ALONE", 60)
    client.go_on(60)


def test_a_secondary_whose_kernel_died_waits_and_says_why(lab: Lab, client: Client) -> None:
    client.go_on(60)
    lab.cut_power("n1", "n2")
    lab.start_node("n2")
    lab.order("n2", "start")
    reason = lab.await_words("n2", "acknowledged from memory", 60)
    assert reason.endswith("it may lack the last writes")
    lab.wait_state("n2", "WAIT", 60, status="NotReady")
    assert "mirrorfarm -H n1 start -m ledger" in lab.why()
    since = lab.state("n2")
    assert since["now_ns"] - since["since_ns"] < 60 * SECOND_NS
    lab.start_node("n1")
    lab.order("n1", "start")
    lab.pair(60)
    assert lab.role("n1") == "PRIM Ready"
    client.go_on(60)
