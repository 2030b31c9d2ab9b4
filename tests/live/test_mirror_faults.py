"""What a mirror does when something around it breaks: the states, the words, and no loss."""

import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mirrorfarm.errors import Refused
from tests.live.fault_work import MODULE, OTHER, Client, Lab, until

pytestmark = pytest.mark.live
LARGE = itertools.count(1_000_000)


# --- the witness ---------------------------------------------------------------------------


def test_without_witness_writes_go_on_and_the_second_death_freezes(
    lab: Lab, client: Client
) -> None:
    lab.kill_node("w")
    until(lambda: "the arbiter does not answer" in lab.facts("n1"), 5)
    client.go_on(5, more=50)
    assert (lab.role("n1"), lab.role("n2")) == ("PRIM Ready", "SECOND Ready")
    lab.kill_node("n1")
    lab.await_words("n2", "the arbiter (witness w) does not answer", 5)
    assert lab.role("n2") == "WAIT NotReady"
    assert "nobody may be promoted" in lab.why()
    lab.start_node("w")
    lab.wait_state("n2", "ALONE", 10)
    client.go_on(5)


def test_without_witness_and_secondary_the_primary_holds_writes(lab: Lab, client: Client) -> None:
    lab.kill_node("w")
    client.go_on(5)
    lab.kill_node("n2")
    lab.await_words("n1", "does not answer: nobody may be promoted", 10)
    assert "writes are held" in lab.facts("n1")
    assert "WAIT NotReady" in lab.why()
    before = len(client.acknowledged)
    lab.start_node("w")
    assert len(client.acknowledged) == before
    lab.wait_state("n1", "ALONE", 10)
    client.go_on(5)


def test_a_slow_witness_changes_nothing(lab: Lab, client: Client) -> None:
    witness = lab.pids("w")["witness"][0]
    terms = lab.state("n1")["term"]
    os.kill(witness, signal.SIGSTOP)
    try:
        until(lambda: "the arbiter does not answer" in lab.facts("n1"), 5)
        client.go_on(5, more=50)
    finally:
        os.kill(witness, signal.SIGCONT)
    until(lambda: lab.state("n1")["arbiter"]["reachable"], 5)
    assert (lab.role("n1"), lab.role("n2")) == ("PRIM Ready", "SECOND Ready")
    assert lab.state("n1")["term"] == terms


def test_a_restarted_witness_remembers(lab: Lab, client: Client) -> None:
    before = lab.state("n1")
    lab.kill_node("w")
    lab.start_node("w")
    client.go_on(5, more=50)
    after = lab.state("n1")
    assert (after["term"], after["ver"], after["state"]) == (before["term"], before["ver"], "PRIM")
    lab.kill_node("n1")
    lab.wait_state("n2", "ALONE", 10)
    client.go_on(5)


def test_a_witness_restored_from_an_old_copy_is_not_believed(lab: Lab, client: Client) -> None:
    store = lab.paths("w").witness_lib()
    old = store.with_name("old")
    lab.kill_node("w")
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(store, old)
    lab.start_node("w")
    lab.order("n1", "swap", seconds=20)
    lab.wait_state("n2", "PRIM", 10)
    client.go_on(5)
    lab.kill_node("w")
    shutil.rmtree(store)
    old.rename(store)
    lab.start_node("w")
    client.go_on(5, more=50)
    lab.kill_node("n2")
    reason = lab.await_words("n1", "restored from an old copy", 5)
    assert "it is not used" in reason
    assert lab.role("n1") == "WAIT NotReady"
    assert "primforce" in lab.why()
    lab.start_node("n2")
    lab.order("n2", "start", seconds=20)
    lab.await_words("n2", "restored from an old copy", 10)
    lab.order("n2", "stop", seconds=20)
    lab.order("n2", "primforce", seconds=20)
    lab.wait_state("n2", "ALONE", 10)
    assert "primforce by an administrator on n2" in lab.state("n2")["record"]["forced"][0]
    client.go_on(5)


# --- the data plane ------------------------------------------------------------------------


def test_a_hung_secondary_is_left_behind_and_taken_back(lab: Lab, client: Client) -> None:
    client.go_on(5)
    replica = lab.pids("n2")["replica"][0]
    os.kill(replica, signal.SIGSTOP)
    try:
        waited = client.go_on(10)
        assert waited < 3.0
        lab.wait_state("n1", "ALONE", 5)
        assert "the peer's replica is silent for 1000 ms" in lab.facts("n1")
    finally:
        os.kill(replica, signal.SIGCONT)
    lab.wait_state("n2", "SECOND", 20)
    lab.wait_state("n1", "PRIM", 10)


def test_a_hung_replica_of_the_primary_is_ended_and_replaced(lab: Lab, client: Client) -> None:
    client.go_on(5)
    os.kill(lab.pids("n1")["replica"][0], signal.SIGSTOP)
    client.go_on(40)
    lab.pair(30)
    assert "the replicator has not answered for 10 s" in lab.facts("n1")


@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_replica_that_is_killed_is_replaced(lab: Lab, client: Client, victim: str) -> None:
    client.go_on(5)
    os.kill(lab.pids(victim)["replica"][0], signal.SIGKILL)
    client.go_on(10)
    lab.pair(20)
    assert "the replicator died" in lab.facts(victim)


@pytest.mark.parametrize("victim", ["n1", "n2"])
@pytest.mark.parametrize("role", ["module", "agent"])
def test_a_process_that_is_killed_is_replaced(
    lab: Lab, client: Client, victim: str, role: str
) -> None:
    client.go_on(5)
    os.kill(lab.pids(victim)[role][0], signal.SIGKILL)
    client.go_on(10)
    lab.pair(20)


def test_a_primary_whose_module_stands_still_is_fenced_and_can_lead_again(
    lab: Lab, client: Client
) -> None:
    client.go_on(5)
    module = lab.pids("n1")["module"][0]
    os.kill(module, signal.SIGSTOP)
    try:
        lab.wait_state("n2", "ALONE", 20)
        client.go_on(5)
    finally:
        os.kill(module, signal.SIGCONT)
    lab.pair(30)
    # Of two reasons to give its role up it hears one first: this, or that n2 leads.
    assert "The guard removed the addresses and ended the application" in lab.log_lines("n1")
    assert lab.role("n1") == "SECOND Ready"
    assert lab.order("n1", "swap", MODULE) == "n1 is PRIM Ready"
    client.go_on(5)
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
    try:
        yield
    finally:
        lab.kill_node(node)  # The mount goes with the node, and with it what it held.


def fill(lab: Lab, node: str, path: str) -> None:
    """Leave no byte on the disk of `path`."""
    lab.run(node, ["dd", "if=/dev/zero", f"of={path}/filling", "bs=4096", "status=none"])


def flood(lab: Lab, client: Client, count: int) -> list[int]:
    """Write large records until one is not taken; return the answers."""
    with lab.as_client():
        return [client.post(next(LARGE), "x" * 60_000) for _ in range(count)]


def test_a_full_disk_of_the_secondary(lab: Lab, client: Client) -> None:
    lab.order("n2", "stop", seconds=20)
    with small_disk(lab, "n2", "/var/lib/ledger", 3):
        lab.order("n2", "start", seconds=20)
        lab.wait_state("n2", "SECOND", 10)
        assert flood(lab, client, 80)[-1] == 201
        client.go_on(10)
        lab.wait_state("n1", "ALONE", 5)
        reason = lab.await_words("n2", "the data of this node cannot be trusted", 5)
        assert reason.endswith("data: No space left on device (28)")
        assert lab.role("n2") == "WAIT NotReady"
        assert "mirrorfarm -H n2 stopstart -m ledger" in lab.why()


def test_a_full_disk_of_the_primary(lab: Lab, client: Client) -> None:
    lab.order("n1", "stop", seconds=20)
    with small_disk(lab, "n1", "/var/lib/ledger", 6):
        lab.order("n1", "start", seconds=20)
        lab.wait_state("n1", "SECOND", 10)
        lab.order("n1", "swap", seconds=20)
        lab.wait_state("n1", "PRIM", 10)
        assert flood(lab, client, 100)[-1] == 0
        # The application ends each time, until it may not be started again: n2 has more room.
        lab.wait_state("n2", "ALONE", 20)
        client.go_on(10)
        assert "Action stop called by maxloop" in lab.facts("n1")
        assert lab.role("n1") == "STOP NotReady"


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
    try:
        yield
    finally:
        lab.kill_node(node)


@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_disk_that_fails_to_write_is_not_trusted(lab: Lab, client: Client, victim: str) -> None:
    lab.order(victim, "stop", seconds=20)
    with failing_disk(lab, victim, "/var/lib/ledger"):
        lab.order(victim, "start", seconds=20)
        lab.pair(10)
        if lab.role("n1") != "PRIM Ready":
            lab.order("n1", "swap", seconds=20)
            lab.pair(10)
        flood(lab, client, 250)
        client.go_on(20)
        lab.wait_state(OTHER[victim], "ALONE", 10)
        lab.await_words(victim, "the data of this node cannot be trusted", 5)
        assert lab.role(victim) == "WAIT NotReady"


@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_full_disk_under_the_record_hinders_only_a_new_start(
    lab: Lab, client: Client, victim: str
) -> None:
    folder = str(lab.paths(victim).lib)
    lab.order(victim, "stop", seconds=20)
    with small_disk(lab, victim, folder, 1):
        lab.order(victim, "start", seconds=20)
        lab.pair(10)
        fill(lab, victim, folder)
        other = OTHER[victim]
        lab.order(other, "swap", seconds=20)  # The record has its place on the disk already.
        lab.pair(10)
        client.go_on(10)
        os.kill(lab.pids(victim)["module"][0], signal.SIGKILL)
        words = "No space left on device: nothing can start without a durable state"
        log = lab.machines[victim].log
        until(lambda: words in log.read_text(), 5)
        client.go_on(10)


# --- the durable record --------------------------------------------------------------------


def test_both_torn_slots_of_the_record_are_said_and_survived(lab: Lab, client: Client) -> None:
    lab.kill_node("n2")
    lab.wait_state("n1", "ALONE", 5)
    for slot in lab.paths("n2").module_lib(MODULE).glob("record.[01]"):
        data = bytearray(slot.read_bytes())
        data[40] ^= 0xFF
        slot.write_bytes(data)
    lab.start_node("n2")
    lab.order("n2", "start", seconds=20)
    lab.wait_state("n2", "SECOND", 10)
    assert "the durable record is damaged" in lab.facts("n2")
    assert "record.0.damaged" in lab.facts("n2")
    assert "of n2 begins: full" in lab.facts("n1")


def test_a_node_without_record_does_not_serve_when_it_returns_first(
    lab: Lab, client: Client
) -> None:
    lab.kill_node("n1")
    lab.kill_node("n2")
    for slot in lab.paths("n1").module_lib(MODULE).glob("record.[01]"):
        slot.unlink()
    lab.start_node("n1")
    lab.order("n1", "start", seconds=20)
    lab.await_words("n1", "this node has no record of its data", 5)
    assert lab.role("n1") == "WAIT NotReady"
    assert "mirrorfarm -H n2 start -m ledger" in lab.why()
    lab.start_node("n2")
    lab.order("n2", "start", seconds=20)
    lab.pair(20)
    assert lab.role("n2") == "PRIM Ready"


def test_a_deleted_state_directory_is_said_and_survived(lab: Lab, client: Client) -> None:
    lab.kill_node("n1")
    lab.wait_state("n2", "ALONE", 5)
    shutil.rmtree(lab.paths("n1").module_lib(MODULE))
    lab.start_node("n1")
    with pytest.raises(Refused, match=r"is not configured on n1.*module config ledger"):
        lab.order("n1", "start", seconds=20)
    lab.mirrorfarm("n1", "module", "config", MODULE)
    until(lambda: lab.role("n1") == "STOP NotReady", 5)
    lab.order("n1", "start", seconds=20)
    lab.wait_state("n1", "SECOND", 10)
    assert "of n1 begins: full" in lab.facts("n2")


# --- power ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("n1", "n2"), ("n2", "n1")])
@pytest.mark.parametrize("how", ["n1 then n2", "n2 then n1", "power"])
def test_both_nodes_return_in_any_order_after_any_stop(
    lab: Lab, client: Client, how: str, order: tuple[str, str]
) -> None:
    client.go_on(5)
    if how == "power":
        lab.machines["n1"].kill()
        lab.machines["n2"].kill()
        for node in order:
            lab.start_node(node)
    else:
        for node in how.split(" then "):
            lab.order(node, "stop", seconds=20)
    newest = {"n1 then n2": "n2", "n2 then n1": "n1", "power": order[0]}[how]
    first, last = order
    lab.order(first, "start", seconds=20)
    if first == newest:
        lab.wait_state(first, "ALONE", 5)
    else:
        lab.await_words(first, f"the newest are on {newest}", 5)
        assert lab.role(first) == "WAIT NotReady"
    lab.order(last, "start", seconds=20)
    lab.wait_state(newest, "PRIM", 10)
    lab.pair(10)
    client.go_on(5)


def test_one_node_returns_alone_after_a_double_power_loss(lab: Lab, client: Client) -> None:
    client.go_on(5)
    lab.kill_node("n1")
    lab.kill_node("n2")
    lab.start_node("n2")
    lab.order("n2", "start", seconds=20)
    lab.wait_state("n2", "ALONE", 5)
    client.go_on(5)
