"""Steps go to the monitors of the module that they are about."""

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.monitors.watches import Watches, together
from mirrorfarm.sim.steps import Step
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Register, RegisterRead

REGISTER = Register(1, 1, "n1", ("n1",), "", "")


@pytest.fixture(name="watches")
def fixture_watches() -> Watches:
    return Watches({name: Watch(()) for name in ("app", "app2")})


def names(watches: Watches, step: Step) -> list[str]:
    return [watch.about.rstrip(": ") for watch in watches.of(step)]


@pytest.mark.parametrize("process", ["app2", "app2.replica"])
def test_a_step_of_a_module_is_for_its_own(watches: Watches, process: str) -> None:
    assert names(watches, Step("n1", process, "module", 1, ev.Started())) == ["app2"]


def test_a_fault_and_what_is_of_no_module_are_for_all(watches: Watches) -> None:
    for process, event in (
        ("app", seen.Fault("power")),
        ("", seen.Begun("witness", 1, "boot-1")),
        ("witness", ev.Started()),
    ):
        assert names(watches, Step("n1", process, "world", 1, event)) == ["app", "app2"]


def test_a_step_of_the_witness_is_for_whose_register_it_is_about(watches: Watches) -> None:
    def witness(event: ev.Event, *effects: fx.Effect) -> list[str]:
        return names(watches, Step("w1", "witness", "register", 1, event, effects))

    asked = ev.Received(Address("n1", "app2", "arbiter"), RegisterRead(1))
    assert witness(ev.RegisterLoaded("c", "app", REGISTER)) == ["app"]
    assert witness(asked) == ["app2"]
    assert witness(asked, fx.RegisterStore("c", "app2", REGISTER, 7)) == ["app2"]
    assert witness(ev.RegisterStored(7)) == ["app2"]
    assert witness(ev.RegisterStored(7)) == ["app", "app2"], "nobody knows any more"


def test_of_a_single_module_nobody_says_its_name() -> None:
    watch = Watch(())
    assert together({"app": watch}) is watch
    assert watch.about == ""
    assert Watches({"app": watch}).all[0].about == ""
