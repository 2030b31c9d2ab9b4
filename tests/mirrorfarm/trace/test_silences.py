"""What was sent and did not come, by actor and network, in bounded memory."""

from mirrorfarm.actors.effects import Send, Tell
from mirrorfarm.actors.events import ArbiterSilent, NetworkSilent, PeerSilent, Received, Started
from mirrorfarm.trace.causes import Absence
from mirrorfarm.trace.silences import KEPT_MAX, WAYS_MAX, Silence, Silences
from mirrorfarm.trace.step import Placed, Sending, Step
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Leave

S = 10**9
PEER = Absence("n2", "n1", -1, 0, 0, traced=True, last=5, last_ns=2 * S, next_ns=9 * S)


def sends(silences: Silences, number: int, network: str, process: str = "app") -> None:
    send = Send(Address("n2", process, "heart"), Leave(1), network)
    step = Step("n1", "heart", number, Started(), [send], "app", 1, number, 0, [number])
    silences.add(Placed(step, 0, number, number * S, number, None, ()))


def comes(silences: Silences, number: int, of: int, network: str) -> None:
    event = Received(Address("n1", "app", "heart"), Leave(1), network, 1, of)
    step = Step("n2", "heart", number, event, [], "app", 2, number)
    effect = Send(Address("n2", "app", "heart"), Leave(1), network)
    sending = Sending(of, of * S, of, (), 0, "heart", effect)
    silences.add(Placed(step, 1, number, number * S, number, sending, ()))


def silent(silences: Silences, number: int, *events: object) -> Silence:
    effects = [Tell("module", event) for event in events]
    step = Step("n2", "heart", number, Started(), effects, "app", 2, number)
    placed = Placed(step, 1, number, number * S, number, None, ())
    silences.add(placed)
    return silences.seen(placed, PEER)


def test_a_network_is_looked_at_alone_and_a_peer_by_all() -> None:
    silences = Silences()
    sends(silences, 1, "red")
    comes(silences, 2, 1, "red")
    for number in (3, 5, 7):
        sends(silences, number, "red")
    sends(silences, 8, "green")
    comes(silences, 9, 8, "green")
    found = silent(silences, 10, NetworkSilent("red"))
    assert (found.absence.heard, found.absence.unheard, found.elsewhere) == (2, 3, True)
    assert "by network red came at" in str(found)
    assert "while n1 sent 3 messages more by it: it lost them" in str(found)
    found = silent(silences, 11, NetworkSilent("green"), PeerSilent(S))
    assert (found.absence.heard, found.absence.unheard, found.network) == (9, 0, "")
    found = silent(silences, 12, ArbiterSilent(S))
    assert found.network == ""


def test_who_went_on_did_not_stand_still() -> None:
    silences = Silences()
    sends(silences, 1, "red")
    comes(silences, 2, 1, "red")
    stood = silent(silences, 8, PeerSilent(6 * S))
    assert (stood.absence.unheard, stood.ran) == (0, False)
    assert "n1 stood still" in str(stood)
    brief = Silence(Absence("n2", "n1", 2, 2 * S, 0, True, 5, 8 * S, 9 * S), 8 * S)
    assert brief.ran
    assert str(brief).endswith(": n1 ran, and sent nothing more")


def test_a_network_by_which_nothing_was_sent_is_none_that_lost_it() -> None:
    silences = Silences()
    sends(silences, 1, "red")
    comes(silences, 2, 1, "red")
    sends(silences, 3, "green")
    comes(silences, 4, 3, "green")
    assert str(silent(silences, 5, NetworkSilent("red"))).endswith(": n1 sent nothing more by it")


def test_memory_is_bounded() -> None:
    silences = Silences()
    for number in range(KEPT_MAX + 5):
        sends(silences, number, "red")
    for number in range(WAYS_MAX + 5):
        sends(silences, 1_000 + number, "", f"cli-{number}")
        if number % 1_000 == 0:
            sends(silences, 9_000 + number, "red")
    assert len(silences._sent) == WAYS_MAX
    assert len(silences._sent["n1", "n2", "app", "heart"]["red"]) == KEPT_MAX
