"""Nodes that replicate other directories are never taken for equal (S4)."""

import pytest

from mirrorfarm.actors.module.mirror import alike, divergence, following, waiting
from mirrorfarm.actors.module.mirror.describe import announcement
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.modules.settings import Module, Replicated, Replication
from mirrorfarm.transport.messages import Announcement, SyncOffer
from tests.actors.module.mirror.building import state
from tests.actors.module.mirror.test_waiting import NOW, node

OWN = ("/data",)  # What `building.module` replicates.
OTHERS: tuple[tuple[str, ...], ...] = ((), ("/data", "/more"), ("/more", "/data"), ("/d", "ata"))


def digest(*paths: str) -> str:
    module = Module("app", 1, ("n1", "n2"), replication=Replication(tuple(map(Replicated, paths))))
    return alike.directories(module)


def test_directories_and_their_order_count() -> None:
    assert len({digest(*paths) for paths in (OWN, *OTHERS)}) == 1 + len(OTHERS)
    assert all(digest(*paths) for paths in OTHERS)


@pytest.mark.parametrize("paths", OTHERS)
def test_a_primary_offers_nothing_to_a_peer_with_others(paths: tuple[str, ...]) -> None:
    s = state()
    s.peer.about = Announcement(directories=digest(*paths), full_wanted=True)
    assert divergence.refusal(s) == "n2 replicates other directories than n1"
    for same in (digest(*OWN), ""):
        s.peer.about = Announcement(directories=same)
        assert divergence.refusal(s) == ""


@pytest.mark.parametrize("paths", OTHERS)
def test_a_node_takes_no_offer_of_a_primary_with_others(paths: tuple[str, ...]) -> None:
    s = node()
    offer = SyncOffer(9, 1, "none", "g0", "", (), directories=digest(*paths))
    following.on_offer(s, offer, NOW)
    assert s.phase is Phase.WAITING
    assert "other directories" in str(s.out)
    following.on_offer(s, SyncOffer(9, 1, "none", "g0", "", (), directories=digest(*OWN)), NOW)
    assert s.phase is Phase.SYNCING


def test_a_node_that_waits_for_such_a_primary_says_what_to_do() -> None:
    s = node()
    s.peer.silent = False
    s.peer.about = Announcement(role="ALONE", term=9, directories=digest(), refuses="as it knows")
    waiting.poll(s, NOW)
    assert s.reason == "n2 is primary, but n2 replicates other directories than n1"
    assert s.command.endswith("module config app")


def test_every_heartbeat_says_what_is_replicated() -> None:
    assert announcement(state()).directories == digest(*OWN)
    assert announcement(state(replication=Replication())).directories == digest()
