"""Which frames a node takes in, and what it writes on those it sends."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.limits import (
    MILLISECOND_NS,
    NETWORKS_MAX,
    PEERS_MAX,
    REPLAY_WINDOW_FRAMES,
    SECOND_NS,
)
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.codec import encode
from mirrorfarm.transport.link.core import PROCESSES_MAX, Inspector, NetworkNews, Sequencer
from mirrorfarm.transport.messages import Frame, Probe

CLUSTER = "0123456789abcdef"


def frame(sequence: int = 1, **fields: Any) -> Frame:
    """Return a frame of n1 to n2."""
    given_fields: dict[str, Any] = {
        "cluster": CLUSTER,
        "source": Address("n1", "web", "module"),
        "incarnation": 7,
        "sequence": sequence,
        "clock": 0,
        "to": Address("n2", "web", "module"),
        "message": Probe("default", 1),
    }
    return Frame(**{**given_fields, **fields})


def inspector(**fields: Any) -> Inspector:
    return Inspector(CLUSTER, "n2", **fields)


def take(one: Inspector, what: Frame, user: str = "n1", network: str = "a", now: int = 5) -> bool:
    accepted = one.inspect(encode(what), user, network, now)
    assert accepted in {None, what}
    return accepted is not None


def dropped(one: Inspector) -> dict[str, int]:
    return {reason: n for reason, n in one.counts.items() if n and reason != "accepted"}


def test_a_frame_that_is_news_is_accepted() -> None:
    one = inspector()
    assert take(one, frame())
    assert one.counts["accepted"] == 1
    assert dropped(one) == {}


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("foreign_cluster", {"cluster": "f" * 16}),
        ("forged_source", {"source": Address("n3", "web", "module")}),
        ("forged_source", {"source": Address("n2", "web", "module")}),
        ("wrong_destination", {"to": Address("n3", "web", "module")}),
    ],
)
def test_an_envelope_that_lies_is_dropped_and_counted(reason: str, fields: dict[str, Any]) -> None:
    one = inspector()
    assert not take(one, frame(**fields))
    assert dropped(one) == {reason: 1}


def test_bytes_that_are_no_frame_are_dropped_and_counted() -> None:
    one = inspector()
    assert one.inspect(b"\xc1", "n1", "a", 5) is None
    assert dropped(one) == {"bad_frame": 1}
    assert one.networks() == (NetworkNews("n1", "a", dropped=1),)


def test_the_copy_that_came_by_the_other_network_is_a_duplicate_and_keeps_it_alive() -> None:
    one = inspector()
    size = len(encode(frame()))
    assert take(one, frame(), network="a", now=10)
    assert not take(one, frame(), network="b", now=20)
    assert dropped(one) == {"duplicate": 1}
    assert one.networks() == (
        NetworkNews("n1", "a", 10, frames=1, bytes=size),
        NetworkNews("n1", "b", 20, frames=1, bytes=size),
    )


def test_frames_may_overtake_each_other_within_the_window() -> None:
    one = inspector()
    assert take(one, frame(5))
    assert take(one, frame(3))
    assert take(one, frame(4))
    assert not take(one, frame(3))


def test_a_frame_behind_the_window_is_dropped_as_replayed() -> None:
    one = inspector()
    assert take(one, frame(REPLAY_WINDOW_FRAMES + 1))
    assert take(one, frame(2))
    assert not take(one, frame(1))
    assert dropped(one) == {"replayed": 1}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3 * REPLAY_WINDOW_FRAMES)), max_size=60)
)
def test_no_frame_is_ever_accepted_twice_nor_an_older_incarnation(
    frames: list[tuple[int, int]],
) -> None:
    one = inspector()
    accepted: list[tuple[int, int]] = []
    for incarnation, sequence in frames:
        news = take(one, frame(sequence, incarnation=incarnation))
        newest = max((i for i, _ in accepted), default=0)
        highest = max((s for i, s in accepted if i == newest), default=0)
        expected = incarnation > newest or (
            incarnation == newest
            and (incarnation, sequence) not in accepted
            and highest - sequence < REPLAY_WINDOW_FRAMES
        )
        assert news == expected
        if news:
            accepted.append((incarnation, sequence))


def test_an_older_incarnation_of_a_process_is_dropped_and_a_newer_starts_afresh() -> None:
    one = inspector()
    assert take(one, frame(9, incarnation=7))
    assert take(one, frame(1, incarnation=8))
    assert not take(one, frame(10, incarnation=7))
    assert dropped(one) == {"old_incarnation": 1}


def test_the_processes_of_a_node_are_told_apart() -> None:
    one = inspector()
    assert take(one, frame(1, incarnation=8))
    assert take(one, frame(1, incarnation=7, source=Address("n1", "web", "replicator")))
    assert take(one, frame(1, incarnation=6, source=Address("n1", "agent", "agent")))
    # Two actors of one process share its sequence.
    assert not take(one, frame(1, incarnation=8, source=Address("n1", "web", "heartbeat")))


def test_a_flood_is_dropped_until_its_tokens_grow_again() -> None:
    one = inspector(frames_per_second=10, frames_burst=3)
    assert [take(one, frame(n), now=0) for n in range(1, 6)] == [True, True, True, False, False]
    assert dropped(one) == {"flood": 2}
    assert not take(one, frame(6), now=99 * MILLISECOND_NS)
    assert take(one, frame(7), now=100 * MILLISECOND_NS)
    assert not take(one, frame(8), now=100 * MILLISECOND_NS)


def test_the_flood_of_one_peer_does_not_drown_another() -> None:
    one = inspector(frames_burst=1)
    assert take(one, frame(1))
    assert not take(one, frame(2))
    assert take(one, frame(1, source=Address("n3", "web", "module")), user="n3")


def test_tokens_never_exceed_the_burst_nor_shrink_when_time_goes_back() -> None:
    one = inspector(frames_per_second=10, frames_burst=2)
    assert take(one, frame(1), now=100 * SECOND_NS)
    assert take(one, frame(2), now=50 * SECOND_NS)
    assert [take(one, frame(n), now=10_000 * SECOND_NS) for n in (3, 4, 5)] == [True, True, False]


def test_tables_stay_bounded_whatever_peers_send() -> None:
    one = inspector()
    for number in range(PROCESSES_MAX + 10):
        assert take(one, frame(1, source=Address("n1", f"cli-{number}", "cli")))
    for number in range(NETWORKS_MAX + 3):
        take(one, frame(number + 2), network=f"net{number}")
    assert len(one.networks()) == NETWORKS_MAX
    for number in range(PEERS_MAX + 3):
        take(one, frame(1, source=Address(f"p{number}", "web", "module")), user=f"p{number}")
    assert one.counts["unknown_peer"] == 4
    assert set(one.counts) == set(inspector().counts)
    # The processes unheard for longest were forgotten, the others not.
    assert take(one, frame(1, source=Address("n1", "cli-0", "cli")))
    assert not take(one, frame(1, source=Address("n1", f"cli-{PROCESSES_MAX}", "cli")))


def test_a_connection_without_a_name_is_an_unknown_peer() -> None:
    one = inspector()
    assert not take(one, frame(), user="")
    assert dropped(one) == {"unknown_peer": 1}


def stamp(one: Sequencer, time_ns: int) -> Frame:
    return one.stamp("web", "module", Address("n2", "web", "module"), Probe("default", 1), time_ns)


def test_frames_are_numbered_from_one_and_say_who_sent_them() -> None:
    one = Sequencer(CLUSTER, "n1", 7)
    assert stamp(one, 0) == frame(1, clock=1)
    assert stamp(one, 0) == frame(2, clock=2)


def test_the_clock_follows_the_time_of_day_and_never_goes_back() -> None:
    one = Sequencer(CLUSTER, "n1", 7)
    assert stamp(one, 3 * MILLISECOND_NS).clock == 3 << 16
    assert stamp(one, 3 * MILLISECOND_NS).clock == (3 << 16) + 1
    assert stamp(one, 2 * MILLISECOND_NS).clock == (3 << 16) + 2
    assert stamp(one, 4 * MILLISECOND_NS).clock == 4 << 16


def test_what_is_sent_after_a_frame_was_received_has_a_later_clock() -> None:
    one = Sequencer(CLUSTER, "n1", 7)
    one.observe(9 << 16, 3 * MILLISECOND_NS)
    assert stamp(one, 3 * MILLISECOND_NS).clock == (9 << 16) + 1


def test_a_clock_absurdly_far_ahead_is_not_followed() -> None:
    one = Sequencer(CLUSTER, "n1", 7)
    one.observe(2**63 - 1, 3 * MILLISECOND_NS)
    assert stamp(one, 3 * MILLISECOND_NS).clock == 3 << 16
