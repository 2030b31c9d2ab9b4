"""Whether a module begins to run when its process starts."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror import orders
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.module_cores import starts_by_itself
from mirrorfarm.modules.settings import Module
from mirrorfarm.transport import messages as msg
from tests.actors.module.farm.building import Hand, core
from tests.actors.module.mirror.building import ADMIN, state
from tests.actors.module.mirror.building import Hand as MirrorHand
from tests.actors.module.mirror.building import core as mirror


def module(boot: str) -> Module:
    return Module("ledger", 1, ("n1", "n2"), boot=boot)


@pytest.mark.parametrize(
    ("boot", "same_boot", "next_boot"),
    [("ignore", True, False), ("off", True, False), ("auto", True, True), ("on", True, True)],
)
def test_what_was_started_goes_on_in_the_same_boot(
    boot: str, same_boot: bool, next_boot: bool
) -> None:
    record = NodeRecord(wanted=True, os_boot="boot-1")
    assert starts_by_itself(module(boot), record, "boot-1") is same_boot
    assert starts_by_itself(module(boot), record, "boot-2") is next_boot


def test_what_was_stopped_starts_at_the_next_boot_and_not_before() -> None:
    stopped = NodeRecord(wanted=False, os_boot="boot-0", wanted_boot="boot-1")
    earlier = NodeRecord(wanted=False, os_boot="boot-1")  # Of a version that told no `wanted_boot`.
    for record in (stopped, earlier):
        assert not starts_by_itself(module("on"), record, "boot-1")
        assert starts_by_itself(module("on"), record, "boot-2")
    assert not starts_by_itself(module("auto"), stopped, "boot-2")
    assert starts_by_itself(module("on"), NodeRecord(), "boot-1"), "new: nobody stopped it"


@pytest.mark.parametrize("boot", ["on", "auto", "ignore"])
def test_a_module_that_was_stopped_stays_so_when_its_process_starts_again(boot: str) -> None:
    hand = MirrorHand(mirror(boot=boot)).lead()
    stop = ev.Received(ADMIN, msg.Command("r2", "stop", "test"))
    s = hand.give(stop).mirror.state
    assert not starts_by_itself(s.module, s.record, s.settings.os_boot)
    farm = Hand(core()).give(ev.Started()).order("start").order("stop").machine.state
    assert not starts_by_itself(module(boot), farm.record, farm.settings.os_boot)


def test_a_mirror_started_after_a_boot_goes_on_before_it_ever_had_a_role() -> None:
    s = state(NodeRecord(os_boot="boot-0", was="second", wanted=True))
    assert not starts_by_itself(module("ignore"), s.record, "boot-1")
    orders.store(s, "", wanted=True)
    assert s.record.os_boot == "boot-0", "when it had its role: a crash must be noticed"
    assert starts_by_itself(module("ignore"), s.record, "boot-1")


def test_what_is_noted_after_a_boot_does_not_start_a_mirror() -> None:
    s = state(NodeRecord(os_boot="boot-0", wanted_boot="boot-0", was="second", wanted=True))
    orders.store(s, "", was="idle")
    assert not starts_by_itself(module("ignore"), s.record, "boot-1")


def test_a_farm_started_after_a_boot_goes_on() -> None:
    record = Hand(core()).give(ev.Started()).order("start").machine.state.record
    assert record.wanted
    assert starts_by_itself(module("ignore"), record, "boot")
    assert not starts_by_itself(module("ignore"), record, "boot-2")
