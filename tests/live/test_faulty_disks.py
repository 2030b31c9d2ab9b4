"""Disks that give input/output errors, below the data and below the durable record."""

from contextlib import suppress

import pytest

from mirrorfarm.errors import MirrorfarmError
from tests.live.fault_work import OTHER, Client, Lab, faulty

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]
DATA = "/var/lib/ledger"


@pytest.mark.parametrize("how", ["once", "eio"])
@pytest.mark.parametrize("kind", ["write", "fsync"])
@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_disk_that_fails_below_the_data(
    lab: Lab, client: Client, victim: str, kind: str, how: str
) -> None:
    with faulty(lab, victim, "/var/lib") as control:
        client.go_on(5)
        control.write_text(f"{kind} {how}\n")
        lab.wait_state(OTHER[victim], "ALONE", 20)
        client.go_on(10)
        reason = lab.await_words(victim, "the data of this node cannot be trusted", 10)
        assert "Input/output error" in reason
        assert lab.role(victim) == "WAIT NotReady"
        assert f"mirrorfarm -H {victim} stopstart -m ledger" in lab.why()
        assert "storage failed: data: Input/output error (5)" in lab.log_lines(victim)


def test_a_disk_that_cannot_be_read_below_the_data_of_the_primary(lab: Lab, client: Client) -> None:
    with faulty(lab, "n1", "/var/lib") as control:
        client.go_on(5)
        control.write_text("read once\n")
        read = ["dd", f"if={DATA}/ledger.sqlite3", "of=/dev/null", "bs=64k", "iflag=direct"]
        assert "Input/output error" in lab.run("n1", read).stderr
        lab.wait_state("n2", "ALONE", 20)
        client.go_on(10)
        reason = lab.await_words("n1", "the data of this node cannot be trusted", 10)
        assert "Input/output error" in reason


@pytest.mark.parametrize("kind", ["write", "fsync"])
@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_disk_that_fails_below_the_durable_record(
    lab: Lab, client: Client, victim: str, kind: str
) -> None:
    with faulty(lab, victim, str(lab.paths(victim).lib)) as control:
        client.go_on(5)
        control.write_text(f"{kind} eio\n")
        client.go_on(5)  # The record is written when a role changes, not before.
        with suppress(MirrorfarmError):
            lab.order("n1", "swap", seconds=20)
        lab.wait_state(OTHER[victim], "ALONE", 20)
        client.go_on(10)
        reason = lab.await_words(victim, "cannot be trusted", 10)
        assert "the durable record" in reason
        assert "Input/output error" in reason
        assert lab.role(victim) == "WAIT NotReady"
        assert f"mirrorfarm -H {victim} stopstart -m ledger" in lab.why()
