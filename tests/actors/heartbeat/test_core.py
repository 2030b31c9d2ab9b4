"""Stories of a heartbeat: what goes in at which time, and what must come out."""

import heapq
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.actors.effects import ANY_EFFECT, Later, Send, Tell
from mirrorfarm.actors.events import (
    Announce,
    NetworkHeard,
    NetworkSilent,
    PeerHeard,
    PeerSilent,
    Promise,
    Received,
    Stalled,
    Started,
)
from mirrorfarm.actors.heartbeat import core
from mirrorfarm.limits import MILLISECOND_NS as MS
from mirrorfarm.modules.settings import HeartbeatNetwork
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Announcement, Heartbeat, Leave, Probe

PEER = Address("b", "m", "heartbeat")
BEGIN = 1_000_000 * MS


class Story:
    """One core with a clock and its timers; time is milliseconds since the start."""

    def __init__(
        self, networks: tuple[str, ...] = ("default",), pulse: int = 50, detection: int = 300
    ) -> None:
        self.core = core.Heartbeat(
            "a",
            "b",
            "m",
            tuple(
                HeartbeatNetwork(name, name, pulse_ns=pulse * MS, timeout_ns=detection * MS)
                for name in networks
            ),
            detection * MS,
        )
        self.now = BEGIN
        self.timers: list[tuple[int, int, Any]] = []
        self.armed = 0
        self.told: list[tuple[int, Any]] = []
        self.sent: list[tuple[int, Send]] = []

    def feed(self, event: Any) -> list[ANY_EFFECT]:
        effects = self.core.handle(event, self.now)
        for effect in effects:
            match effect:
                case Later(at_ns, later):
                    self.armed += 1
                    heapq.heappush(self.timers, (at_ns, self.armed, later))
                case Tell("module", event):
                    self.told.append((self.millis(), event))
                case Send():
                    self.sent.append((self.millis(), effect))
                case _:
                    pytest.fail(f"unexpected effect {effect}")
        return effects

    def millis(self) -> int:
        return (self.now - BEGIN) // MS

    def start(self) -> None:
        self.feed(Started())
        self.feed(Announce(Announcement(role="WAIT", incarnation=1)))

    def run_to(self, millis: int) -> None:
        """Let time pass with every timer on time."""
        end = BEGIN + millis * MS
        while self.timers and self.timers[0][0] <= end:
            at_ns, _, event = heapq.heappop(self.timers)
            self.now = max(self.now, at_ns)
            self.feed(event)
        self.now = end

    def stall_to(self, millis: int) -> None:
        """Let time pass without being scheduled."""
        self.now = BEGIN + millis * MS

    def wake(self) -> None:
        """Handle the timers that became due while stalled, all at this moment."""
        due = []
        while self.timers and self.timers[0][0] <= self.now:
            due.append(heapq.heappop(self.timers)[2])
        for event in due:
            self.feed(event)

    def hear(
        self,
        number: int,
        network: str = "default",
        incarnation: int = 1,
        role: str = "PRIM",
    ) -> None:
        about = Announcement(role=role, incarnation=incarnation)
        self.feed(Received(PEER, Heartbeat(network, number, 7, about), network))

    def facts(self, *kinds: type) -> list[tuple[int, Any]]:
        return [(at, event) for at, event in self.told if isinstance(event, kinds)]

    def beats(self, network: str = "default") -> list[int]:
        return [
            at
            for at, send in self.sent
            if isinstance(send.message, Heartbeat) and send.network == network
        ]

    def promises(self) -> list[tuple[int, int]]:
        """Time of the question, and term, of each heartbeat that was sent; 0 without one."""
        return [
            (send.message.promised_ns, send.message.promised_term)
            for _, send in self.sent
            if isinstance(send.message, Heartbeat)
        ]

    def probes(self) -> list[tuple[int, str]]:
        return [(at, send.network) for at, send in self.sent if isinstance(send.message, Probe)]


def test_every_pulse_sends_one_heartbeat_to_the_peer_with_growing_numbers() -> None:
    story = Story()
    story.start()
    story.run_to(200)
    assert story.beats() == [0, 50, 100, 150, 200]
    numbers = [send.message.number for _, send in story.sent if isinstance(send.message, Heartbeat)]
    assert numbers == sorted(set(numbers))
    assert {send.to for _, send in story.sent} == {PEER}


def test_a_promise_is_a_heartbeat_at_once_and_takes_the_place_of_the_next_pulse() -> None:
    story = Story()
    story.start()
    for at in (70, 120, 170, 220):
        story.run_to(at)
        story.feed(Promise("default", at, 3))
    story.run_to(230)
    assert story.beats() == [0, 50, 70, 120, 170, 220]
    assert story.promises() == [(0, 0), (0, 0), (70, 3), (120, 3), (170, 3), (220, 3)]


def test_a_primary_that_asks_no_more_finds_the_pulse_going_on() -> None:
    story = Story()
    story.start()
    story.run_to(70)
    story.feed(Promise("default", 7, 3))
    story.run_to(250)
    assert story.beats() == [0, 50, 70, 132, 182, 232], "a quarter of a pulse of patience"
    assert [at for at, _ in story.promises()] == [0, 0, 7, 0, 0, 0], "a promise is given once"


def test_a_promise_on_one_network_lets_the_pulse_of_the_others_go_on() -> None:
    story = Story(("default", "second"))
    story.start()
    for at in (40, 90, 140):
        story.run_to(at)
        story.feed(Promise("default", at, 3))
    story.run_to(160)
    assert story.beats("default") == [0, 40, 90, 140]
    assert story.beats("second") == [0, 50, 100, 150]
    story.feed(Promise("unknown", 1, 3))
    assert len(story.beats("unknown")) == 0


def test_a_promise_that_was_heard_is_told_with_the_heartbeat() -> None:
    story = Story()
    story.start()
    about = Announcement(role="SECOND", incarnation=1)
    story.feed(Received(PEER, Heartbeat("default", 5, 7, about, 99, 4), "default"))
    (told,) = story.facts(PeerHeard)
    assert (told[1].beat.promised_ns, told[1].beat.promised_term) == (99, 4)


def test_each_network_keeps_its_own_pulse() -> None:
    story = Story()
    story.core = core.Heartbeat(
        "a",
        "b",
        "m",
        (
            HeartbeatNetwork("x", "x", 50 * MS, 300 * MS),
            HeartbeatNetwork("y", "y", 80 * MS, 1 << 40),
        ),
        300 * MS,
    )
    story.start()
    story.run_to(160)
    assert story.beats("x") == [0, 50, 100, 150]
    assert story.beats("y") == [0, 80, 160]


def test_nothing_is_said_before_the_mirror_has_said_what_this_node_is() -> None:
    story = Story()
    story.feed(Started())
    story.run_to(120)
    story.feed(Received(PEER, Probe("default", 1), "default"))
    assert story.sent == []
    story.feed(Announce(Announcement(role="WAIT")))
    assert story.beats() == [120]


def test_an_announcement_replaces_the_text_and_leaves_the_pulse_alone() -> None:
    story = Story(("x", "y"))
    story.start()
    story.run_to(70)
    story.sent.clear()
    story.feed(Announce(Announcement(role="PRIM")))
    assert story.sent == []
    story.feed(Announce(Announcement(role="ALONE"), at_once=True))
    assert [(at, send.network) for at, send in story.sent] == [(70, "x"), (70, "y")]
    story.run_to(100)
    assert story.beats("x") == [70, 100]
    assert all(
        send.message.about.role == "ALONE"
        for _, send in story.sent
        if isinstance(send.message, Heartbeat)
    )


def test_a_heartbeat_is_told_to_the_mirror_with_what_it_says() -> None:
    story = Story()
    story.start()
    story.hear(5)
    about = Announcement(role="PRIM", incarnation=1)
    assert [event for _, event in story.told] == [
        NetworkHeard("default"),
        PeerHeard("default", Heartbeat("default", 5, 7, about)),
    ]


def test_duplicates_and_older_numbers_are_dropped() -> None:
    story = Story()
    story.start()
    story.hear(5)
    story.told.clear()
    story.hear(5)
    story.hear(4)
    assert story.told == []
    story.hear(6)
    assert len(story.facts(PeerHeard)) == 1


def test_a_restarted_peer_counts_anew_and_is_heard() -> None:
    story = Story()
    story.start()
    story.hear(500, incarnation=1)
    story.hear(1, incarnation=2)
    assert [event.beat.about.incarnation for _, event in story.facts(PeerHeard)] == [1, 2]
    story.hear(501, incarnation=1)  # A straggler of the process that is gone.
    assert len(story.facts(PeerHeard)) == 2


def test_a_peer_whose_disk_was_replaced_is_heard_after_the_silence() -> None:
    story = Story()
    story.start()
    story.hear(500, incarnation=9)
    story.run_to(400)
    story.hear(1, incarnation=1)
    assert len(story.facts(PeerHeard)) == 2


def test_strangers_and_unknown_networks_and_other_messages_are_ignored() -> None:
    story = Story()
    story.start()
    beat = Heartbeat("default", 1, 0, Announcement())
    before = len(story.sent)
    for source in (Address("c", "m", "heartbeat"), Address("b", "n", "heartbeat")):
        story.feed(Received(source, beat, "default"))
    story.feed(Received(PEER, beat, "elsewhere"))
    story.feed(Received(PEER, Probe("elsewhere", 1), "elsewhere"))
    story.feed(Received(PEER, Leave(1), "default"))
    assert story.told == []
    assert len(story.sent) == before


def test_a_lost_network_of_two_is_reported_and_the_peer_is_not_silent() -> None:
    story = Story(("x", "y"))
    story.start()
    for step in range(1, 21):
        story.run_to(step * 50)
        story.hear(2 * step, "x")
        if step <= 4:
            story.hear(2 * step + 1, "y")
    assert story.facts(NetworkSilent) == [(500, NetworkSilent("y"))]
    assert story.facts(PeerSilent) == []
    story.hear(900, "y")
    assert story.facts(NetworkHeard)[-1] == (1000, NetworkHeard("y"))


def roles(story: Story) -> list[str]:
    return [event.beat.about.role for _, event in story.facts(PeerHeard)]


def test_what_was_held_back_on_one_network_does_not_undo_what_another_one_has_brought() -> None:
    story = Story(networks=("a", "b"))
    story.start()
    story.hear(1, "b", role="WAIT")
    story.hear(5, "a", role="SECOND")
    story.hear(2, "b", role="WAIT")
    assert roles(story) == ["WAIT", "SECOND", "SECOND"]
    story.run_to(200)
    story.hear(6, "b", role="PRIM")  # Heard on both: neither is silent for its old news.
    story.run_to(299)
    assert not story.facts(NetworkSilent)
    story.hear(1, "a", incarnation=2, role="STOP")
    story.hear(7, "b", role="PRIM")
    assert roles(story)[3:] == ["PRIM", "STOP", "STOP"]


def test_a_peer_that_counts_its_starts_anew_is_believed_once_its_past_is_silent() -> None:
    story = Story(networks=("a", "b"))
    story.start()
    story.hear(500, "a", incarnation=9)
    story.run_to(100)
    story.hear(501, "b", incarnation=9)
    story.run_to(300)
    story.hear(1, "a", role="STOP")
    assert roles(story)[-1] == "PRIM", "on b it may be alive"
    story.run_to(401)
    story.hear(3, "a", role="STOP")
    assert roles(story)[-1] == "STOP"


def test_a_peer_lost_on_all_networks_is_silent_once_until_heard_again() -> None:
    story = Story(("x", "y"))
    story.start()
    story.run_to(100)
    story.hear(1, "x")
    story.run_to(150)
    story.hear(2, "y")
    story.run_to(2_000)
    assert story.facts(NetworkSilent) == [(400, NetworkSilent("x")), (450, NetworkSilent("y"))]
    assert story.facts(PeerSilent) == [(450, PeerSilent(300 * MS))]
    assert story.probes() == []
    story.hear(3, "x")
    story.run_to(4_000)
    assert [at for at, _ in story.facts(PeerSilent)] == [450, 2_300]


def test_a_peer_never_heard_is_silent_after_the_detection_time() -> None:
    story = Story()
    story.start()
    story.run_to(1_000)
    assert story.facts(PeerSilent) == [(300, PeerSilent(300 * MS))]


def test_a_stall_of_200_ms_with_the_fast_profile_does_not_conclude_silence() -> None:
    story = Story()
    story.start()
    number = 0
    for step in range(1, 5):
        story.run_to(step * 50)
        story.hear(number := number + 1)
    story.stall_to(450)  # Since 200: the heartbeats of 250 to 450 wait in the inbox.
    story.wake()
    assert [event.late_ns for _, event in story.facts(Stalled)] == [200 * MS]
    for _ in range(5):
        story.hear(number := number + 1)
    story.run_to(700)
    assert story.facts(PeerSilent, NetworkSilent) == []


def test_a_stall_longer_than_the_detection_time_is_followed_by_a_probe_not_by_silence() -> None:
    story = Story(("x", "y"))
    story.start()
    story.hear(1, "x")
    story.hear(2, "y")
    story.stall_to(1_000)
    story.wake()
    assert len(story.facts(Stalled)) == 1
    assert story.probes() == [(1_000, "x"), (1_000, "y")]
    story.hear(3, "x")  # It waited in the inbox behind the timers.
    story.run_to(1_299)
    assert story.facts(PeerSilent) == []
    story.run_to(1_400)
    assert story.facts(PeerSilent) == [(1_300, PeerSilent(300 * MS))]


def test_a_peer_that_died_during_the_stall_is_silent_after_one_probe_period() -> None:
    story = Story()
    story.start()
    story.hear(1)
    story.stall_to(1_000)
    story.wake()
    story.run_to(2_000)
    assert story.probes() == [(1_000, "default")]
    assert story.facts(PeerSilent) == [(1_075, PeerSilent(1_075 * MS))]


def test_a_decision_due_right_after_a_stall_is_held_too() -> None:
    story = Story()
    story.start()
    story.hear(1)
    story.run_to(100)
    story.stall_to(290)
    story.wake()
    story.run_to(300)  # Not late itself, but nothing was heard since the process is back.
    assert story.facts(PeerSilent) == []
    assert story.probes() == [(300, "default")]
    story.hear(2)
    story.run_to(500)
    assert story.facts(PeerSilent, NetworkSilent) == []


def test_a_machine_that_stalls_for_ever_still_notices_that_its_peer_died() -> None:
    story = Story()
    story.start()
    story.hear(1)
    for step in range(1, 12):
        story.stall_to(step * 400)
        story.wake()
    assert len(story.probes()) == core.PROBES_MAX
    assert len(story.facts(PeerSilent)) == 1


def test_lateness_within_the_scheduler_s_noise_is_no_stall() -> None:
    story = Story()
    story.start()
    story.stall_to(50 + 25)
    story.wake()
    assert story.facts(Stalled) == []


def test_a_probe_is_answered_at_once_on_its_network() -> None:
    story = Story(("x", "y"))
    story.start()
    story.run_to(10)
    story.sent.clear()
    story.feed(Received(PEER, Probe("y", 3), "y"))
    assert [(at, send.network) for at, send in story.sent] == [(10, "y")]
    assert story.beats("y") == [10]


def test_a_second_start_does_not_multiply_the_timers() -> None:
    story = Story()
    story.start()
    story.run_to(20)
    story.feed(Started())
    story.sent.clear()
    story.run_to(1_020)
    assert len(story.beats()) == 20
    assert len(story.timers) == 2


def test_after_a_stall_the_missed_pulses_are_not_caught_up() -> None:
    story = Story()
    story.start()
    story.stall_to(1_010)
    story.wake()
    story.run_to(1_160)
    assert story.beats() == [0, 1_010, 1_060, 1_110, 1_160]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pass", "stall", "x", "y", "old", "announce"]),
            st.integers(1, 400),
        ),
        max_size=60,
    )
)
@settings(max_examples=300, deadline=None)
def test_silence_is_never_concluded_if_a_heartbeat_was_handled_within_the_detection_time(
    steps: list[tuple[str, int]],
) -> None:
    story = Story(("x", "y"))
    story.start()
    heard_ms, number, first = 0, 0, ""
    for kind, amount in steps:
        told = len(story.told)
        match kind:
            case "pass":
                story.run_to(story.millis() + amount)
            case "stall":
                story.stall_to(story.millis() + amount)
                story.wake()
            case "old" if number:
                story.hear(1, first)
            case "announce" | "old":
                story.feed(Announce(Announcement(), at_once=amount > 200))
            case network:
                number += 1
                first = first or network
                story.hear(number, network)
                heard_ms = story.millis()
        for at, event in story.told[told:]:
            if isinstance(event, PeerSilent):
                assert at - heard_ms >= 300
                assert event.silent_ns == (at - heard_ms) * MS
        assert len(story.timers) == 3, "a timer was lost or multiplied"
    story.run_to(story.millis() + 1_000)
    assert isinstance(story.facts(PeerSilent, PeerHeard)[-1][1], PeerSilent)
