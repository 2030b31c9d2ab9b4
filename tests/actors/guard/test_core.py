from mirrorfarm.actors.effects import GuardOrder, Log, Tell
from mirrorfarm.actors.events import GuardActed, GuardArm, GuardDisarm, Started
from mirrorfarm.actors.guard.core import Guard


def test_deadlines_are_handed_on_and_repeated_ones_left_out() -> None:
    guard = Guard()
    assert guard.handle(Started(), 0) == []
    assert guard.handle(GuardArm(5), 1) == [GuardOrder(5)]
    assert guard.handle(GuardArm(5), 2) == []
    assert guard.handle(GuardArm(6), 3) == [GuardOrder(6)]
    assert guard.handle(GuardDisarm(), 4) == [GuardOrder(0)]
    assert guard.handle(GuardDisarm(), 5) == []


def test_mirror_hears_that_the_guard_acted() -> None:
    guard = Guard()
    guard.handle(GuardArm(5), 1)
    effects = guard.handle(GuardActed(5), 6)
    assert Tell("module", GuardActed(5)) in effects
    assert any(isinstance(effect, Log) and effect.level == "C" for effect in effects)


def test_deadline_can_be_given_again_after_the_guard_acted() -> None:
    guard = Guard()
    guard.handle(GuardArm(5), 1)
    guard.handle(GuardActed(5), 6)
    assert guard.handle(GuardDisarm(), 7) == [GuardOrder(0)], "what it still holds back may start"
    assert guard.handle(GuardDisarm(), 7) == []
    assert guard.handle(GuardArm(5), 8) == [GuardOrder(5)]
