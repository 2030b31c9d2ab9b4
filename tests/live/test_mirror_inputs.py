"""Bad scripts, wrong commands and hostile packets: what a mirror makes of each."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from mirrorfarm.errors import Refused
from mirrorfarm.transport.keys import load_keys
from tests.live.fault_work import MODULE, Client, Lab, rss_kilobytes, until

pytestmark = pytest.mark.live


# --- processes that do not come to run -----------------------------------------------------


@pytest.mark.parametrize("victim", ["module", "agent"])
def test_a_module_whose_process_cannot_start_says_why(
    lab: Lab, client: Client, victim: str
) -> None:
    active = lab.paths("n2").module_lib(MODULE) / "active/userconfig.xml"
    before = active.read_bytes()
    active.write_bytes(before + b"<!-- by hand -->")
    try:
        for role in ("agent", "module") if victim == "agent" else ("module",):
            os.kill(lab.pids("n2")[role][0], signal.SIGKILL)
        reason = lab.await_words("n2", "was changed, or a configuration was interrupted", 60)
        assert "run: mirrorfarm module config ledger" in reason
        assert lab.role("n2") == "NOT RUNNING NotReady"
        told = lab.why()
        assert "n2 is NOT RUNNING NotReady since" in told, told
        listed = " ".join(lab.mirrorfarm("n2", "module", "list").split())
        assert "was changed, or a configuration was interrupted" in listed
        with pytest.raises(Refused, match=r"does not run on n2: .*was changed"):
            lab.order("n2", "start")
        client.go_on(60)
    finally:
        active.write_bytes(before)
        if victim == "agent":
            lab.mirrorfarm("n2", "module", "config", MODULE)
    until(lambda: lab.state("n2").get("state") not in {None, "NOT RUNNING"}, 60)


# --- scripts -------------------------------------------------------------------------------

HEAD = "#!/bin/bash\n"
SCRIPTS = {
    "hangs": (HEAD + "exec sleep 1000\n", 0o755, "script start_prim: no end within 3 s, killed"),
    "exits 255": (HEAD + "exit 255\n", 0o755, "script start_prim: exit 255"),
    "not executable": (HEAD, 0o644, "script start_prim: "),
    "no interpreter": ("#!/no/such/thing\n", 0o755, "the interpreter named in its first line"),
    "ignores TERM": (
        HEAD + "trap '' TERM\nwhile true; do sleep 1; done\n",
        0o755,
        "script start_prim: no end within 3 s, killed",
    ),
}


def put(script: Path, text: str, mode: int) -> None:
    """Replace a script at once: the one before may be about to run."""
    new = script.with_name(f".{script.name}.new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(script)


@contextlib.contextmanager
def replaced(script: Path, text: str, mode: int = 0o755) -> Iterator[None]:
    """Have another script in a script's place."""
    good = script.read_text()
    put(script, text, mode)
    try:
        yield
    finally:
        put(script, good, 0o755)


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_bad_start_script_is_named_and_the_peer_can_still_take_over(
    lab: Lab, client: Client, kind: str
) -> None:
    text, mode, words = SCRIPTS[kind]
    script = lab.paths("n2").module_etc(MODULE) / "bin/start_prim"
    with replaced(script, text, mode):
        lab.order("n1", "swap")
        until(lambda: words in lab.facts("n2"), 60, lambda: lab.story("n2"))
    until(lambda: lab.role("n2") == "PRIM Ready", 60, lambda: lab.story("n2"))
    lab.swap("n2")


def test_a_script_that_prints_without_end_is_bounded(lab: Lab, client: Client) -> None:
    script = lab.paths("n2").module_etc(MODULE) / "bin/start_prim"
    module = lab.pids("n2")["module"][0]
    before = rss_kilobytes(module)
    with replaced(script, HEAD + "exec yes 'without end'\n"):
        lab.order("n1", "swap")
        until(lambda: "no end within 3 s" in lab.facts("n2"), 60, lambda: lab.story("n2"))
    grown = rss_kilobytes(module) - before
    logs = sorted((lab.paths("n2").module_log(MODULE) / "scripts").glob("*start_prim.ulog"))
    assert grown < 20_000
    assert logs[-1].stat().st_size < 4_000_000


def test_daemons_of_a_script_do_not_outlive_the_role(lab: Lab, client: Client) -> None:
    script = lab.paths("n1").module_etc(MODULE) / "bin/start_prim"
    good = script.read_text()
    lab.swap("n1")
    daemon = "setsid bash -c 'setsid sleep 7654 & disown' >/dev/null 2>&1 &\n"
    with replaced(script, good.replace("\nexec ", f"\n{daemon}exec ", 1)):
        lab.swap("n2")
        until(lambda: bool(sleeps(lab, "n1")), 60)
        lab.swap("n1")
        lab.order("n1", "stop")
        until(lambda: not sleeps(lab, "n1"), 60)


def sleeps(lab: Lab, node: str) -> list[int]:
    """Return the daemons that the script of the test above left."""
    found = []
    for pid in lab.pids(node).get("application", []):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"7654" in file.read():
                    found.append(pid)
        except OSError:
            continue
    return found


def test_who_survives_a_stop_script_is_named_and_ended(lab: Lab, client: Client) -> None:
    script = lab.paths("n1").module_etc(MODULE) / "bin/start_prim"
    good = script.read_text()
    lab.swap("n1")
    daemon = "echo x >$LEDGER_DIR/held; setsid sleep 7654 <$LEDGER_DIR/held >/dev/null 2>&1 &\n"
    with replaced(script, good.replace("\nexec ", f"\n{daemon}exec ", 1)):
        lab.swap("n2")
        until(lambda: bool(sleeps(lab, "n1")), 60)
        lab.swap("n1")
        words = "(sleep 7654), which survived the stop scripts and is ended"
        until(lambda: words in lab.facts("n1"), 60, lambda: lab.story("n1", words))
        assert "in use by process" in lab.why()
        until(lambda: not sleeps(lab, "n1"), 60)
        lab.wait_state("n1", "SECOND", 60)


def test_a_start_script_may_give_the_role_away(lab: Lab, client: Client) -> None:
    """As the scripts of the reference product do: the exit code alone stops nothing."""
    script = lab.paths("n2").module_etc(MODULE) / "bin/start_prim"
    order = f"{sys.executable} -m mirrorfarm.cli.main stop -i start_prim\n"
    with replaced(script, HEAD + "echo the service does not start\n" + order + "exit 1\n"):
        lab.order("n1", "swap")
        lab.wait_state("n2", "STOP", 60, status="NotReady")
        lab.wait_state("n1", "ALONE", 60)
        assert "SYSTEM/start_prim" in lab.log_lines("n2")
        client.go_on(60)


def test_a_stop_script_that_hangs_does_not_hold_a_swap(lab: Lab, client: Client) -> None:
    script = lab.paths("n1").module_etc(MODULE) / "bin/stop_prim"
    with replaced(script, HEAD + "exec sleep 1000\n"):
        lab.swap("n1")
        assert "script stop_prim: no end within 3 s, killed" in lab.facts("n1")
    client.go_on(60)


# --- addresses -----------------------------------------------------------------------------


def test_an_address_in_use_by_a_stranger_is_not_taken(lab: Lab, client: Client) -> None:
    lab.order("n2", "stop")
    lab.order("n1", "stop")
    stranger = ["ip", "addr", "add", f"{lab.vip}/24", "dev", "eth0"]
    assert lab.client(stranger).returncode == 0
    try:
        lab.order("n1", "start")
        reason = lab.await_words("n1", "in use by somebody else", 60)
        assert lab.vip in reason
        lab.wait_state("n1", "WAIT", 60, status="NotReady")
        assert "the other user of the address goes away" in " ".join(lab.why().split())
    finally:
        lab.client([*stranger[:2], "del", *stranger[3:]])
    lab.wait_state("n1", "ALONE", 60)
    lab.order("n2", "start")


# --- commands ------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["swap", "stopstart", "restart", "start", "prim", "second"])
def test_a_command_on_both_nodes_at_once_is_harmless(lab: Lab, client: Client, verb: str) -> None:
    answers = lab.both({"n1": verb, "n2": verb})
    assert all(told.startswith(("n1 is ", "n2 is ", "Refused: ")) for told in answers.values())
    lab.pair(60)
    client.go_on(60)


@pytest.mark.parametrize("verb", ["start", "prim"])
def test_both_nodes_started_at_once_agree_on_one(lab: Lab, client: Client, verb: str) -> None:
    lab.both({"n1": "stop", "n2": "stop"})
    assert {lab.state(node)["state"] for node in lab.nodes} == {"STOP"}
    answers = lab.both({"n1": verb, "n2": verb})
    assert not [told for told in answers.values() if "no final answer" in told]
    for node in lab.nodes:
        if lab.state(node)["state"] == "STOP":
            lab.order(node, "start")
    lab.pair(60)


def test_the_same_command_twice_is_done_once(lab: Lab, client: Client) -> None:
    term = lab.state("n1")["term"]
    threads = [
        threading.Thread(target=lab.both, args=({"n1": "swap"},), daemon=True) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lab.pair(60)
    assert lab.state("n1")["term"] in {term + 1, term + 2}


def test_forcing_a_stale_node_is_refused_while_its_peer_serves_and_audited_after(
    lab: Lab, client: Client
) -> None:
    lab.kill_node("n2")
    lab.wait_state("n1", "ALONE", 60)
    client.go_on(60)
    lab.start_node("n2")
    until(lambda: lab.state("n2").get("peer", {}).get("state") == "ALONE", 60)  # It has heard n1.
    for verb in ("prim", "primforce"):
        with pytest.raises(Refused, match=r"n1 is ALONE already: stop it first, or use swap"):
            lab.order("n2", verb)
    lab.order("n1", "stop")
    lab.order("n2", "start")
    reason = lab.await_words("n2", "the newest are on n1", 60)
    assert "may not be up to date" in reason
    with pytest.raises(Refused, match="unknown verb 'dance'"):
        lab.order("n2", "dance")
    lab.order("n1", "start")


# --- hostile packets -----------------------------------------------------------------------

BUS, WITNESS, REPLICATION = 4800, 4801, 5600
FLOOD_SECONDS = 1.5
CONNECTIONS_MIN = 20
GROWTH_KILOBYTES_MAX = 24_000


def ports(lab: Lab) -> dict[str, tuple[str, int, str]]:
    """Return every TCP port of the cluster, with the role of the process that serves it."""
    address = lab.wiring.address
    return {
        "n1": (address("n1", "default"), BUS, "agent"),
        "n2": (address("n2", "default"), BUS, "agent"),
        "w": (address("w", "default"), WITNESS, "witness"),
        "n2 replication": (address("n2", "default"), REPLICATION, "replica"),
    }


def garbage(address: str, port: int, seconds: float) -> int:
    """Open connections and send what is no ZMTP, or too much of it; return how many were made."""
    greeting = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" + bytes(15) + b"\0" + bytes(31)
    kinds = (os.urandom(65_536), b"GET / HTTP/1.1\r\n\r\n", greeting + os.urandom(65_536), b"")
    deadline, made = time.monotonic() + seconds, 0
    kept: list[socket.socket] = []
    # Who sends much to one who reads slowly has made few connections by then.
    while time.monotonic() < deadline or made <= CONNECTIONS_MIN:
        link = socket.socket()
        link.settimeout(0.2)
        with contextlib.suppress(OSError):
            link.connect((address, port))
            link.sendall(kinds[made % len(kinds)])
        made += 1
        kept.append(link)
        if len(kept) > 100:
            kept.pop(0).close()
    for link in kept:
        link.close()
    return made


def strangers(address: str, port: int, server_key: bytes, seconds: float) -> None:
    """Connect with keys that nobody knows, and send as much as the socket takes."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        dealer = context.socket(zmq.DEALER)
        dealer.linger = 0
        public, secret = zmq.curve_keypair()
        dealer.curve_publickey, dealer.curve_secretkey = public, secret
        dealer.curve_serverkey = server_key
        dealer.connect(f"tcp://{address}:{port}")
        for _ in range(20):
            with contextlib.suppress(zmq.Again):
                dealer.send(os.urandom(1_000), zmq.NOBLOCK)
        time.sleep(0.01)
        dealer.close()
    context.destroy(linger=0)


def server_key(lab: Lab, machine: str) -> bytes:
    """Return the public key of a machine: anybody may know it."""
    other = "n2" if machine == "n1" else "n1"
    return load_keys(lab.paths(other)).peers[machine].encode()


@pytest.mark.parametrize("where", ["n1", "n2", "w", "n2 replication"])
def test_garbage_and_strangers_on_a_port_change_nothing(
    lab: Lab, client: Client, where: str
) -> None:
    address, port, role = ports(lab)[where]
    machine = where.partition(" ")[0]
    pid = lab.pids(machine)[role][0]
    state, before = lab.state("n1"), rss_kilobytes(pid)
    refused = stats(lab, machine)
    with lab.as_client():
        made = garbage(address, port, FLOOD_SECONDS)
        strangers(address, port, server_key(lab, machine), FLOOD_SECONDS)
    client.go_on(60, more=20)
    after = lab.state("n1")
    grown = rss_kilobytes(pid) - before
    assert [after[key] for key in ("state", "term", "ver")] == [
        state[key] for key in ("state", "term", "ver")
    ]
    assert lab.role("n2") == "SECOND Ready"
    assert pid in lab.pids(machine)[role]
    assert made > CONNECTIONS_MIN
    assert grown < GROWTH_KILOBYTES_MAX, f"RSS was {before} kB, grew by {grown} kB"
    if role == "agent":
        assert stats(lab, machine) > refused
    assert not [text for text in lab.log_lines("n1").splitlines() if "Traceback" in text]


def stats(lab: Lab, node: str) -> int:
    """Return how many strangers the bus of a node refused; 0 for the witness."""
    if node not in lab.nodes:
        return 0
    with lab._ask(node) as asking:
        return int(json.loads(asking.agent(node, "stats").json)["bus"]["stranger"])
