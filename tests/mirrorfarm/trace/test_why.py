"""`why` tells the chain of causes of one event, in words and as a diagram."""

import re
from pathlib import Path

import pytest

from mirrorfarm.actors.effects import Send, Tell
from mirrorfarm.actors.events import NetworkHeard, NetworkSilent
from mirrorfarm.errors import UsageInvalid
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.trace import diagram
from mirrorfarm.trace.diagram import Diagram
from mirrorfarm.trace.finding import step_id
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.step import MessageId, Placed
from mirrorfarm.trace.why import why
from mirrorfarm.trace.words import clock_time
from tests.mirrorfarm.trace.little_cluster import LittleCluster


def in_order(text: str, *parts: str) -> bool:
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
    return True


def test_a_takeover_is_explained_back_to_the_death_of_the_primary(recorded: Path) -> None:
    answer = why([recorded], "n2 PRIM")
    assert in_order(
        answer.paragraph,
        "n2 became PRIM in term 2 at 08:00:27.",
        "because n2 learnt from its arbiter that n2 holds term 2",
        "because w had on its disk that n2 holds ledger in term 2",
        "because n2 asked its arbiter that n2 hold term 2",
        "n2's module had waited",
        "because n2 had heard nothing from its peer for 2.00 s",
        "because the last message from n1 came at 08:00:25.",
        "n1 ended without a word after 08:00:25.",
    ), answer.paragraph
    assert "\n" not in answer.paragraph
    nodes = [(link.placed.step.node, link.link) for link in answer.chain]
    assert nodes[0] == ("n2", "told")
    assert ("w", "message") in nodes
    assert ("w", "answer") in nodes


def test_the_diagram_tells_the_same_forwards(recorded: Path) -> None:
    drawn = why([recorded], "n2 PRIM").diagram
    assert drawn.startswith("sequenceDiagram\n")
    assert in_order(
        drawn,
        "nothing recorded after",
        "PeerSilent",
        "Tick after",
        "AskCas",
        "RegisterCas",
        "RegisterStored",
        "RegisterAnswer",
        "RegisterKnown",
        "became PRIM in term 2",
    )
    assert 1 <= drawn.count("->>") <= diagram.ARROWS_MAX


def test_an_order_of_an_administrator_is_a_first_cause(recorded: Path) -> None:
    answer = why([recorded], "n1 ALONE")
    assert answer.paragraph.endswith("n1 was ordered to prim by anna (08:00:03.5000).")


@pytest.fixture(name="networks", scope="module")
def fixture_networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror with two networks: one is down for a while, later both are cut."""
    folder = tmp_path_factory.mktemp("networks")
    story = b"""
mirror: {profile: fast, networks: 2}
events:
  - {at: 0.5 s, network_down: second, for: 1 s}
  - {at: 3 s, cut: n1 n2, for: 1 s}
end: 5 s
"""
    play(read(story, "story.yaml"), tells=False, trace=folder)
    return folder


def silent_steps(folder: Path) -> list[Placed]:
    """Return the steps in which n2 says that a network is silent."""
    return [
        placed
        for placed in Merge([folder]).steps()
        if placed.step.node == "n2" and placed.step.actor == "heartbeat"
        if any(type(e) is Tell and type(e.event) is NetworkSilent for e in placed.step.effects)
    ]


def beats(folder: Path, before: Placed, network: str = "") -> tuple[str, int]:
    """Return when the last heartbeat of n1 came to n2 before a step, and how many did not since.

    By one network, or (empty) by any.
    """
    at_ns = number = 0
    sent: dict[MessageId | None, int] = {}
    for placed in Merge([folder]).steps():
        step = placed.step
        if placed.number >= before.number:
            break
        if step.actor != "heartbeat":
            continue
        if step.node == "n1":
            sends = [one for one in step.effects if type(one) is Send]
            for one, message in zip(sends, step.sent_ids, strict=True):
                if one.network == network or not network:
                    sent[message] = placed.number
        elif placed.sending is not None and step.event.network in {network or step.event.network}:
            at_ns, number = placed.at_ns, placed.sending.number
            del sent[step.received_id]
    return clock_time(at_ns), sum(one > number for one in sent.values())


def test_a_silent_network_says_nothing_of_the_other_one(networks: Path) -> None:
    first = silent_steps(networks)[0]
    came, many = beats(networks, first, "second")
    assert many == 6
    answer = why([networks], step_id(first.step))
    assert answer.paragraph.endswith(
        f"because the last message from n1 by network second came at {came}, while n1 sent 6 "
        "messages more by it: it lost them."
    ), answer.paragraph
    assert "6 messages lost" in answer.diagram


def test_what_came_is_not_counted_as_lost(networks: Path) -> None:
    last = silent_steps(networks)[-1]
    came, many = beats(networks, last)
    answer = why([networks], "n2 silent")
    assert f"came at {came}, while n1 sent {many} messages more: the network" in answer.paragraph


def test_a_heartbeat_that_is_sent_has_no_cause(networks: Path) -> None:
    answers = [
        why([networks], step_id(placed.step)).paragraph
        for placed in Merge([networks]).steps()
        if placed.step.node == "n2" and placed.step.actor == "heartbeat"
        if any(type(e) is Tell and type(e.event) is NetworkHeard for e in placed.step.effects)
    ]
    assert len(answers) == 5
    for text in answers[2:]:
        assert "stood still" not in text
        assert re.search(r"n1's heartbeat had waited 50.0 ms \([0-9:.]+\)\.$", text), text


def test_a_network_that_lost_messages_is_named_as_the_cause(tmp_path: Path) -> None:
    cluster = LittleCluster(tmp_path)
    cluster.start("n1")
    cluster.run(500)
    cluster.command("n1", "prim")
    cluster.start("n2")
    cluster.run(8_000)
    cluster.cut.add(frozenset(("n1", "n2")))
    cluster.run(6_000)
    cluster.close()
    answer = why([tmp_path], "n1 silent")
    assert "more: the network between them lost them" in answer.paragraph
    assert "messages lost" in answer.diagram


def test_a_node_that_stood_still_is_told_from_one_that_ended(tmp_path: Path) -> None:
    cluster = LittleCluster(tmp_path)
    cluster.start("n1")
    cluster.run(500)
    cluster.command("n1", "prim")
    cluster.start("n2")
    cluster.run(8_000)
    cluster.kill("n1")
    cluster.run(4_000)
    cluster.start("n1")
    cluster.run(1_000)
    cluster.close()
    answer = why([tmp_path], "n2 silent")
    assert "n1 ended without a word after" in answer.paragraph
    assert "and started again at" in answer.paragraph


def test_without_the_peers_traces_it_says_which_are_missing(recorded: Path) -> None:
    answer = why([recorded / "n2", recorded / "w"], "n2 PRIM")
    assert "the traces of n1 would say: they are not among those given" in answer.paragraph


def test_an_event_is_named_by_its_id_as_well(recorded: Path) -> None:
    by_words = why([recorded], "n2 PRIM")
    by_id = why([recorded], by_words.what.id)
    assert by_id.paragraph == by_words.paragraph


def test_an_ambiguous_event_is_refused_with_the_candidates(recorded: Path) -> None:
    with pytest.raises(UsageInvalid, match=r"may mean \d+ events") as refusal:
        why([recorded], "AskRead")
    lines = str(refusal.value).splitlines()
    assert 3 <= len(lines) <= 21
    assert "n1/ledger/1." in lines[1]
    chosen = lines[2].split()[1]
    assert why([recorded], chosen).what.id == chosen


def test_a_time_narrows_what_is_meant(recorded: Path) -> None:
    with pytest.raises(UsageInvalid, match=r"may mean 2 events"):
        why([recorded], "n1 network")
    narrow = why([recorded], "n1 network 08:00:05")
    assert narrow.what.text == "n1 heard its peer on network red"


def test_an_unknown_event_is_refused_with_roles_that_were_taken(recorded: Path) -> None:
    with pytest.raises(UsageInvalid, match=r"no event of these traces is that") as refusal:
        why([recorded], "n2 flies")
    assert "n2 became PRIM in term 2" in str(refusal.value)
    with pytest.raises(UsageInvalid, match=r"no event of these traces is that"):
        why([recorded], "n9/ledger/1.5")


def test_the_plain_answer_has_all_of_the_chain(recorded: Path) -> None:
    plain = why([recorded], "n2 PRIM").plain()
    assert isinstance(plain["chain"], list)
    assert plain["chain"][0]["facts"][0].startswith("n2") is False
    assert [link["event"] for link in plain["chain"]][:2] == ["RegisterKnown", "RegisterAnswer"]


def test_a_diagram_has_a_bound_and_no_text_ends_a_statement() -> None:
    drawn = Diagram()
    for _ in range(diagram.ARROWS_MAX + 5):
        drawn.arrow("n1 a", "n2 b", "x; y # z\nw: <b>")
    text = str(drawn)
    assert text.count("->>") == diagram.ARROWS_MAX
    assert "5 more are left out" in text
    assert all(line.count(":") <= 1 for line in text.splitlines())
    assert not set(";#<") & set(text)


def test_notes_have_a_bound_too_and_what_is_left_out_is_counted() -> None:
    drawn = Diagram()
    for number in range(diagram.NOTES_MAX + 7):
        drawn.note("n1", f"is in view {number}")
    text = str(drawn)
    assert text.count("is in view") == diagram.NOTES_MAX
    assert "7 more are left out" in text
