"""Disks that give input/output errors, below the data and below the durable record."""

import re
from contextlib import suppress

import pytest

from mirrorfarm.errors import MirrorfarmError
from tests.live.fault_disk import order
from tests.live.fault_work import OTHER, Client, Lab, faulty, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
DATA = "/var/lib/ledger"


@pytest.mark.parametrize("how", ["once", "eio"])
@pytest.mark.parametrize("kind", ["write", "fsync"])
@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_disk_that_fails_below_the_data(
    lab: Lab, client: Client, victim: str, kind: str, how: str
) -> None:
    with faulty(lab, victim, "/var/lib") as control:
        client.go_on(60)
        order(control, f"{kind} {how}\n")
        lab.wait_state(OTHER[victim], "ALONE", 60)
        client.go_on(60)
        reason = lab.await_words(victim, "the data of this node cannot be trusted", 60)
        assert "Input/output error" in reason
        lab.wait_state(victim, "WAIT", 60, status="NotReady")
        assert f"mirrorfarm -H {victim} stopstart -m ledger" in lab.why()
        told = re.compile(f"storage failed: data: {DATA}.*: Input/output error \\(5\\)")
        until(
            lambda: told.search(lab.log_lines(victim)) is not None,
            60,
            lambda: lab.story(victim, "the failure with its path in its log"),
        )


def test_a_disk_that_cannot_be_read_below_the_data_of_the_primary(lab: Lab, client: Client) -> None:
    with faulty(lab, "n1", "/var/lib") as control:
        client.go_on(60)
        order(control, "read once\n")
        read = ["dd", f"if={DATA}/ledger.sqlite3", "of=/dev/null", "bs=64k", "iflag=direct"]
        assert "Input/output error" in lab.run("n1", read).stderr
        lab.wait_state("n2", "ALONE", 60)
        client.go_on(60)
        reason = lab.await_words("n1", "the data of this node cannot be trusted", 60)
        assert "Input/output error" in reason


@pytest.mark.parametrize("kind", ["write", "fsync"])
def test_a_disk_that_the_kernel_made_read_only_below_the_data_of_the_primary(
    lab: Lab, client: Client, kind: str
) -> None:
    with faulty(lab, "n1", "/var/lib") as control:
        client.go_on(60)
        order(control, f"{kind} erofs\n")
        lab.wait_state("n2", "ALONE", 60)
        client.go_on(60)
        reason = lab.await_words("n1", "the data of this node cannot be trusted", 60)
        assert "Read-only file system" in reason


@pytest.mark.parametrize(
    ("failure", "words"),
    [("mkdir eio", ("mkdir", f"{DATA}/new")), ("lookup eio", ("stat", f"{DATA}/other"))],
    ids=["takes", "finds"],
)
def test_a_disk_that_takes_or_finds_no_name_below_the_data_of_the_primary(
    lab: Lab, client: Client, failure: str, words: tuple[str, str]
) -> None:
    with faulty(lab, "n1", "/var/lib") as control:
        client.go_on(60)
        order(control, f"{failure}\n")
        assert "Input/output error" in lab.run("n1", [*words]).stderr
        lab.wait_state("n2", "ALONE", 60)
        client.go_on(60)
        reason = lab.await_words("n1", "the data of this node cannot be trusted", 60)
        assert "Input/output error" in reason


@pytest.mark.parametrize("kind", ["write", "fsync"])
@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_disk_that_fails_below_the_durable_record(
    lab: Lab, client: Client, victim: str, kind: str
) -> None:
    with faulty(lab, victim, str(lab.paths(victim).lib)) as control:
        client.go_on(60)
        order(control, f"{kind} eio\n")
        client.go_on(60)  # The record is written when a role changes, not before.
        with suppress(MirrorfarmError):
            lab.order("n1", "swap", seconds=20)
        lab.wait_state(OTHER[victim], "ALONE", 60)
        client.go_on(60)
        reason = lab.await_words(victim, "cannot be trusted", 60)
        assert "the durable record" in reason
        assert "Input/output error" in reason
        lab.wait_state(victim, "WAIT", 60, status="NotReady")
        assert f"mirrorfarm -H {victim} stopstart -m ledger" in lab.why()
