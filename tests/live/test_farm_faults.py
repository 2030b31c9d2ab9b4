"""Faults of a farm, each with the words that `state` and `why` show."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorfarm.lab import farm_web
from mirrorfarm.lab.cluster import OneMachine
from tests.live.farm_work import answers, ask, await_members, install, up, userconfig

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

NODES = ("n1", "n2", "n3")


def text(lans: str) -> str:
    return userconfig().replace('<lan name="default"/>', lans)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[OneMachine]:
    """Three nodes on two networks; clients are on `default`, heartbeats where the test says."""
    with OneMachine(nodes=NODES, networks=("default", "private"), witness=False) as machine:
        install(machine, text(request.param))
        up(machine, *NODES)
        yield machine


def why(lab: OneMachine, node: str) -> str:
    return " ".join(lab.mirrorfarm(node, "why", "-m", "web").split())


def await_reason(lab: OneMachine, node: str, words: str, seconds: float = 60) -> str:
    """Return the reason of a node's state once it has these words."""
    deadline = time.monotonic() + seconds
    while words not in (reason := str(lab.state(node).get("reason", ""))):
        assert time.monotonic() < deadline, reason
        time.sleep(0.05)
    return reason


BOTH = '<lan name="default"/><lan name="private"/>'


@pytest.mark.parametrize("lab", [BOTH], indirect=True)
def test_a_node_that_clients_cannot_reach_gives_its_clients_to_the_others(lab: OneMachine) -> None:
    lab.cut("n3", "default")
    await_members(lab, "n1", {"n1", "n2"})
    assert set(answers(lab, 60)) == {"n1", "n2"}
    await_reason(lab, "n3", "no client is answered here: no cable at eth0")
    assert lab.state("n3")["state"] == "UP", "its application goes on, for when the cable is in"
    lab.mend("n3", "default")
    await_members(lab, "n1", set(NODES))
    assert set(answers(lab, 90)) == set(NODES)


@pytest.mark.parametrize("lab", ['<lan name="private"/>'], indirect=True)
def test_nodes_that_do_not_hear_each_other_say_so_and_find_together_again(lab: OneMachine) -> None:
    """The advice is to have heartbeats on the clients' network as well; here they are not."""
    lab.cut("n3", "private")
    await_members(lab, "n1", {"n1", "n2"})
    assert "n3: it is silent on every network of the farm" in why(lab, "n1")
    lab.mend("n3", "private")
    await_members(lab, "n1", set(NODES))
    assert set(answers(lab, 90)) == set(NODES)


@pytest.mark.parametrize("lab", [BOTH], indirect=True)
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<farm ", '<farm seed="5" ', "seed"),
        ('filter="on_port"', 'filter="on_addr"', "rules"),
        ("<farm ", '<farm filter="nft" ', "filter"),
        (
            '<group name="web">',
            '<group name="web"><cluster><host name="n1" power="3"/><host name="n2"/>'
            '<host name="n3"/></cluster>',
            "powers",
        ),
    ],
    ids=["seed", "rules", "filter", "powers"],
)
def test_a_node_with_another_configuration_is_refused_in_words(
    lab: OneMachine, old: str, new: str, words: str
) -> None:
    assert old in text(BOTH)
    restart(lab, "n3", text(BOTH).replace(old, new))
    assert words in await_reason(lab, "n3", "refused: ")
    assert set(answers(lab, 60)) == {"n1", "n2"}
    assert "n3: refused: " in lab.mirrorfarm("n1", "farm", "state", "-m", "web")
    restart(lab, "n3", text(BOTH))
    await_members(lab, "n1", set(NODES))


def test_of_two_nodes_one_whose_agent_hangs_leaves_all_clients_to_the_other() -> None:
    """Packets reach it all the time; nobody is answered by both, nor reset by one of them."""
    with OneMachine(nodes=("n1", "n2"), witness=False) as lab:
        install(lab, userconfig())
        up(lab, "n1", "n2")
        (agent,) = lab.pids("n1")["agent"]
        os.kill(agent, signal.SIGSTOP)
        try:
            await_members(lab, "n2", {"n2"})
            assert set(answers(lab, 60)) == {"n2"}
        finally:
            os.kill(agent, signal.SIGCONT)
        await_members(lab, "n1", {"n1", "n2"})
        assert set(answers(lab, 60)) == {"n1", "n2"}
        lab.kill_node("n2")
        await_members(lab, "n1", {"n1"})
        os.kill(agent, signal.SIGSTOP)
        try:
            with lab.as_client():
                deadline = time.monotonic() + 60
                while ask(seconds=0.3) == "n1":
                    assert time.monotonic() < deadline, "who could take over is not told"
        finally:
            os.kill(agent, signal.SIGCONT)
        await_members(lab, "n1", {"n1"})
        assert set(answers(lab, 20)) == {"n1"}


def restart(lab: OneMachine, node: str, configuration: str) -> None:
    lab.order(node, "stop")
    path = lab.paths(node).module_etc("web") / "conf/userconfig.xml"
    path.write_text(configuration)
    lab.mirrorfarm(node, "module", "config", "web")
    lab.order(node, "start")


def text_of(path: Path) -> str:
    """Return what is in a file; nothing if there is none at the moment."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def test_a_light_module_runs_on_one_node_and_is_restarted_there() -> None:
    light = (
        '<safe><service mode="light"><user><var name="WEB_SERVER" value="python"/></user>'
        '<errd polltimer="1s"><proc argregex="web_server\\.py" class="both" action="restart"/>'
        "</errd></service></safe>"
    )
    with OneMachine(nodes=("n1", "n2"), witness=False) as lab:
        install(lab, light)
        lab.order("n1", "start")
        assert lab.wait_state("n1", "UP", 60)["mode"] == "light"
        lab.wait_state("n2", "STOP", 60, status="NotReady")
        place = lab.paths("n1").module_lib("web") / "web-8080.pid"
        first = place.read_text()
        assert not lab.run("n1", ["kill", "-9", first.strip()]).returncode
        farm_web.until(lambda: text_of(place) not in {"", first}, 60, "another process")
        lab.wait_state("n1", "UP", 60)
        lab.order("n1", "stop")
        assert not place.exists()
