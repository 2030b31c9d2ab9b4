"""What a mirror does when something around it breaks: the states, the words, and no loss."""

import itertools
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mirrorfarm.errors import Refused
from tests.live.fault_work import (
    MODULE,
    OTHER,
    REPLICATION_MS,
    Client,
    Lab,
    lose_disk,
    move_data,
    until,
)

pytestmark = pytest.mark.live
LARGE = itertools.count(1_000_000)


# --- the witness ---------------------------------------------------------------------------


def test_without_witness_writes_go_on_and_the_second_death_freezes(
    lab: Lab, client: Client
) -> None:
    lab.kill_node("w")
    until(lambda: "the arbiter does not answer" in lab.facts("n1"), 60)
    client.go_on(60, more=50)
    assert (lab.role("n1"), lab.role("n2")) == ("PRIM Ready", "SECOND Ready")
    lab.kill_node("n1")
    lab.await_words("n2", "the arbiter (witness w) does not answer", 60)
    lab.wait_state("n2", "WAIT", 60, status="NotReady")
    assert "nobody may be promoted" in lab.why()
    lab.start_node("w")
    lab.wait_state("n2", "ALONE", 60)
    client.go_on(60)


def test_without_witness_and_secondary_the_primary_holds_writes(lab: Lab, client: Client) -> None:
    lab.kill_node("w")
    client.go_on(60)
    lab.kill_node("n2")
    lab.await_words("n1", "does not answer: nobody may be promoted", 60)
    until(lambda: "writes are held" in lab.facts("n1"), 60, lambda: lab.story("n1", "held writes"))
    assert "WAIT NotReady" in lab.why()
    time.sleep(1)  # Longer than the client waits for an answer.
    before = len(client.acknowledged)
    time.sleep(1)
    assert len(client.acknowledged) == before
    lab.start_node("w")
    lab.wait_state("n1", "ALONE", 60)
    client.go_on(60)


def test_a_slow_witness_changes_nothing(lab: Lab, client: Client) -> None:
    witness = lab.pids("w")["witness"][0]
    terms = lab.state("n1")["term"]
    os.kill(witness, signal.SIGSTOP)
    try:
        until(lambda: "the arbiter does not answer" in lab.facts("n1"), 60)
        client.go_on(60, more=50)
    finally:
        os.kill(witness, signal.SIGCONT)
    lab.wait_arbiter(60)
    assert (lab.role("n1"), lab.role("n2")) == ("PRIM Ready", "SECOND Ready")
    assert lab.state("n1")["term"] == terms


def test_a_restarted_witness_remembers(lab: Lab, client: Client) -> None:
    before = lab.state("n1")
    lab.kill_node("w")
    lab.start_node("w")
    client.go_on(60, more=50)
    after = lab.state("n1")
    assert (after["term"], after["ver"], after["state"]) == (before["term"], before["ver"], "PRIM")
    lab.kill_node("n1")
    lab.wait_state("n2", "ALONE", 60)
    client.go_on(60)


def test_a_witness_restored_from_an_old_copy_is_not_believed(lab: Lab, client: Client) -> None:
    store = lab.paths("w").witness_lib()
    old = store.with_name("old")
    lab.kill_node("w")
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(store, old)
    lab.start_node("w")
    lab.wait_arbiter(60)
    lab.swap("n1")
    client.go_on(60)
    lab.kill_node("w")
    shutil.rmtree(store)
    old.rename(store)
    lab.start_node("w")
    client.go_on(60, more=50)
    lab.kill_node("n2")
    reason = lab.await_words("n1", "restored from an old copy", 60)
    assert "it is not used" in reason
    lab.wait_state("n1", "WAIT", 60, status="NotReady")
    assert "primforce" in lab.why()
    lab.start_node("n2")
    lab.order("n2", "start")
    lab.await_words("n2", "restored from an old copy", 60)
    lab.order("n2", "stop")
    lab.order("n2", "primforce")
    lab.wait_state("n2", "ALONE", 60)
    assert "primforce by an administrator on n2" in lab.state("n2")["record"]["forced"][0]
    client.go_on(60)


# --- the data plane ------------------------------------------------------------------------


def test_a_hung_secondary_is_left_behind_and_taken_back(lab: Lab, client: Client) -> None:
    client.go_on(60)
    replica = lab.pids("n2")["replica"][0]
    os.kill(replica, signal.SIGSTOP)
    try:
        waited = client.go_on(60)
        assert waited < 3 * REPLICATION_MS / 1_000
        lab.wait_state("n1", "ALONE", 60)
        assert f"the peer's replica is silent for {REPLICATION_MS} ms" in lab.facts("n1")
    finally:
        os.kill(replica, signal.SIGCONT)
    lab.wait_state("n2", "SECOND", 60)
    lab.wait_state("n1", "PRIM", 60)


def test_a_hung_replica_of_the_primary_is_ended_and_replaced(lab: Lab, client: Client) -> None:
    client.go_on(60)
    os.kill(lab.pids("n1")["replica"][0], signal.SIGSTOP)
    client.go_on(60)
    lab.pair(60)
    assert "the replicator has not answered for 10 s" in lab.facts("n1")


@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_replica_that_is_killed_is_replaced(lab: Lab, client: Client, victim: str) -> None:
    client.go_on(60)
    os.kill(lab.pids(victim)["replica"][0], signal.SIGKILL)
    client.go_on(60)
    lab.pair(60)
    assert "the replicator died" in lab.facts(victim)


@pytest.mark.parametrize("victim", ["n1", "n2"])
@pytest.mark.parametrize("role", ["module", "agent"])
def test_a_process_that_is_killed_is_replaced(
    lab: Lab, client: Client, victim: str, role: str
) -> None:
    client.go_on(60)
    os.kill(lab.pids(victim)[role][0], signal.SIGKILL)
    client.go_on(60)
    lab.pair(60)


def test_a_primary_whose_module_stands_still_is_fenced_and_can_lead_again(
    lab: Lab, client: Client
) -> None:
    client.go_on(60)
    module = lab.pids("n1")["module"][0]
    os.kill(module, signal.SIGSTOP)
    try:
        lab.wait_state("n2", "ALONE", 60)
        client.go_on(60)
    finally:
        os.kill(module, signal.SIGCONT)
    lab.pair(60)
    # Of two reasons to give its role up it hears one first: this, or that n2 leads.
    assert "The guard removed the addresses and ended the application" in lab.log_lines("n1")
    assert lab.role("n1") == "SECOND Ready"
    assert lab.order("n1", "swap", MODULE) == "n1 is PRIM Ready"
    client.go_on(60)
    assert "the right to act is over" not in lab.log_lines("n1"), "nothing was held back"


# --- full disks ----------------------------------------------------------------------------


@contextmanager
def small_disk(lab: Lab, node: str, path: str, megabytes: int) -> Iterator[None]:
    """Put a small file system over a folder of a node, with what is in the folder."""
    script = (
        'mount -t tmpfs -o size="$2"m,mode=755 tmpfs /mnt && cp -a "$1"/. /mnt'
        ' && mount --move /mnt "$1"'
    )
    done = lab.run(node, ["sh", "-ec", script, "sh", path, str(megabytes)])
    assert not done.returncode, done.stderr
    move_data(lab, node)
    try:
        yield
    finally:
        lose_disk(lab, node)  # The mount goes with the node, and with it what it held.


def fill(lab: Lab, node: str, path: str) -> None:
    """Leave no byte on the disk of `path`."""
    lab.run(node, ["dd", "if=/dev/zero", f"of={path}/filling", "bs=4096", "status=none"])


def flood(lab: Lab, client: Client, count: int, seconds: float = 0.5) -> list[int]:
    """Write large records, each of which may take so long; return the answers."""
    with lab.as_client():
        return [client.post(next(LARGE), "x" * 60_000, seconds) for _ in range(count)]


def test_a_full_disk_of_the_secondary(lab: Lab, client: Client) -> None:
    lab.order("n2", "stop")
    with small_disk(lab, "n2", "/var/lib/ledger", 3):
        lab.order("n2", "start")
        lab.wait_state("n2", "SECOND", 60)
        assert flood(lab, client, 80, seconds=20)[-1] == 201
        client.go_on(60)
        lab.wait_state("n1", "ALONE", 60)
        reason = lab.await_words("n2", "the data of this node cannot be trusted", 60)
        assert reason.endswith("No space left on device (28)")
        assert "data: /var/lib/ledger" in reason
        lab.wait_state("n2", "WAIT", 60, status="NotReady")
        assert "mirrorfarm -H n2 stopstart -m ledger" in lab.why()


def test_a_full_disk_of_the_primary(lab: Lab, client: Client) -> None:
    lab.order("n1", "stop")
    with small_disk(lab, "n1", "/var/lib/ledger", 6):
        lab.order("n1", "start")
        lab.wait_state("n1", "SECOND", 60)
        lab.pair(60)
        lab.order("n1", "swap")  # As the secondary: it asks its primary.
        lab.wait_state("n1", "PRIM", 60)
        assert 0 in flood(lab, client, 100)
        # The application ends each time, until it may not be started again: n2 has more room.
        lab.wait_state("n2", "ALONE", 60)
        client.go_on(60)
        lab.wait_state("n1", "STOP", 60, status="NotReady")
        assert "Action stop called by maxloop" in lab.facts("n1")


@contextmanager
def failing_disk(lab: Lab, node: str, path: str) -> Iterator[None]:
    """Put a disk over a folder that fails to write more than 10 MB more than it holds."""
    script = (
        'size=$(( $(du -sm "$1" | cut -f1) + 10 ));'
        " mkdir /run/image && mount -t tmpfs -o size=${size}m tmpfs /run/image"
        " && truncate -s 512m /run/image/disk && mkfs.ext4 -q -O ^has_journal /run/image/disk"
        ' && mount -o loop /run/image/disk /mnt && cp -a "$1"/. /mnt && mount --move /mnt "$1"'
    )
    done = lab.run(node, ["sh", "-ec", script, "sh", path])
    assert not done.returncode, done.stderr
    move_data(lab, node)
    try:
        yield
    finally:
        lose_disk(lab, node)


@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_disk_that_fails_to_write_is_not_trusted(lab: Lab, client: Client, victim: str) -> None:
    lab.order(victim, "stop")
    with failing_disk(lab, victim, "/var/lib/ledger"):
        lab.order(victim, "start")
        lab.pair(60)
        if lab.role("n1") != "PRIM Ready":
            lab.order("n1", "swap")
            lab.pair(60)
        flood(lab, client, 250)
        client.go_on(60)
        lab.wait_state(OTHER[victim], "ALONE", 60)
        lab.await_words(victim, "the data of this node cannot be trusted", 60)
        lab.wait_state(victim, "WAIT", 60, status="NotReady")


@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_full_disk_under_the_record_hinders_only_a_new_start(
    lab: Lab, client: Client, victim: str
) -> None:
    folder = str(lab.paths(victim).lib)
    lab.order(victim, "stop")
    with small_disk(lab, victim, folder, 1):
        lab.order(victim, "start")
        lab.pair(60)
        fill(lab, victim, folder)
        other = OTHER[victim]
        lab.order(other, "swap")  # The record has its place on the disk already.
        lab.pair(60)
        client.go_on(60)
        os.kill(lab.pids(victim)["module"][0], signal.SIGKILL)
        words = "No space left on device: nothing can start without a durable state"
        log = lab.machines[victim].log
        until(lambda: words in log.read_text(errors="replace"), 60)
        client.go_on(60)


# --- the durable record --------------------------------------------------------------------


def test_both_torn_slots_of_the_record_are_said_and_survived(lab: Lab, client: Client) -> None:
    lab.kill_node("n2")
    lab.wait_state("n1", "ALONE", 60)
    for slot in lab.paths("n2").module_lib(MODULE).glob("record.[01]"):
        data = bytearray(slot.read_bytes())
        data[40] ^= 0xFF
        slot.write_bytes(data)
    lab.start_node("n2")
    lab.order("n2", "start")
    lab.wait_state("n2", "SECOND", 60)
    assert "the durable record is damaged" in lab.facts("n2")
    assert "record.0.damaged" in lab.facts("n2")
    assert "of n2 begins: full" in lab.facts("n1")


def test_a_node_without_record_does_not_serve_when_it_returns_first(
    lab: Lab, client: Client
) -> None:
    lab.cut_power("n1", "n2")
    for slot in lab.paths("n1").module_lib(MODULE).glob("record.[01]"):
        slot.unlink()
    lab.start_node("n1")
    lab.order("n1", "start")
    lab.await_words("n1", "this node has no record of its data", 60)
    lab.wait_state("n1", "WAIT", 60, status="NotReady")
    assert "mirrorfarm -H n2 start -m ledger" in lab.why()
    lab.start_node("n2")
    lab.order("n2", "start")
    lab.pair(60)
    assert lab.role("n2") == "PRIM Ready"


def test_a_deleted_state_directory_is_said_and_survived(lab: Lab, client: Client) -> None:
    lab.kill_node("n1")
    lab.wait_state("n2", "ALONE", 60)
    shutil.rmtree(lab.paths("n1").module_lib(MODULE))
    lab.start_node("n1")
    with pytest.raises(Refused, match=r"is not configured on n1.*module config ledger"):
        lab.order("n1", "start")
    lab.mirrorfarm("n1", "module", "config", MODULE)
    until(lambda: lab.role("n1") == "STOP NotReady", 60)
    lab.order("n1", "start")
    lab.wait_state("n1", "SECOND", 60)
    assert "of n1 begins: full" in lab.facts("n2")


# --- power ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("n1", "n2"), ("n2", "n1")])
@pytest.mark.parametrize("how", ["n1 then n2", "n2 then n1", "power"])
def test_both_nodes_return_in_any_order_after_any_stop(
    lab: Lab, client: Client, how: str, order: tuple[str, str]
) -> None:
    client.go_on(60)
    if how == "power":
        lab.cut_power("n1", "n2")
        for node in order:
            lab.start_node(node)
    else:
        for node in how.split(" then "):
            lab.order(node, "stop")
    newest = {"n1 then n2": "n2", "n2 then n1": "n1", "power": order[0]}[how]
    first, last = order
    lab.order(first, "start")
    if first == newest:
        lab.wait_state(first, "ALONE", 60)
    else:
        lab.await_words(first, f"the newest are on {newest}", 60)
        lab.wait_state(first, "WAIT", 60, status="NotReady")
    lab.order(last, "start")
    lab.wait_state(newest, "PRIM", 60)
    lab.pair(60)
    client.go_on(60)


def test_one_node_returns_alone_after_a_double_power_loss(lab: Lab, client: Client) -> None:
    client.go_on(60)
    lab.cut_power("n1", "n2")
    lab.start_node("n2")
    lab.order("n2", "start")
    lab.wait_state("n2", "ALONE", 60)
    client.go_on(60)
