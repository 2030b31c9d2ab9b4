import pytest

from mirrorfarm.actors.events import ScriptStep
from mirrorfarm.actors.scripts.sequences import NAMES, SEQUENCES, around_traffic, sequence


def words(kind: str) -> str:
    return " ".join(f"{step.name}{'+f' if step.force else ''}" for step in sequence(kind))


def test_application_starts_with_both_then_prim_then_sec() -> None:
    assert words("WAIT->ALONE") == "transition start_both start_prim start_sec"
    assert words("WAIT->PRIM") == "transition start_both start_prim"


def test_restart_stops_gracefully_then_by_force_and_starts_again() -> None:
    assert words("restart PRIM") == (
        "stop_prim stop_prim+f stop_both stop_both+f start_both start_prim"
    )


def test_last_stop_forces_everything_before_poststop() -> None:
    assert words("WAIT->STOP") == (
        "stop_sec+f stop_prim+f stop_second+f stop_both+f poststop transition"
    )


def test_failover_stops_the_secondary_before_it_starts_the_primary() -> None:
    assert words("SECOND->ALONE") == "stop_second transition start_prim"


@pytest.mark.parametrize("kind", SEQUENCES)
def test_force_only_ever_goes_with_a_stop_script(kind: str) -> None:
    for step in sequence(kind):
        assert step.name in NAMES
        assert not step.force or step.name.startswith("stop_")


@pytest.mark.parametrize("kind", SEQUENCES)
def test_every_transition_but_a_restart_tells_the_transition_script(kind: str) -> None:
    assert (ScriptStep("transition") in sequence(kind)) == (not kind.startswith("restart"))


def test_up_is_started_and_stopped_like_alone() -> None:
    for kind in ("WAIT->ALONE", "ALONE->WAIT", "restart ALONE"):
        assert sequence(kind) == sequence(kind.replace("ALONE", "UP"))


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("WAIT->UP", "transition start_both", "start_prim start_sec"),
        ("UP->WAIT", "stop_sec stop_prim stop_both", "transition"),
        (
            "restart UP",
            "stop_sec stop_sec+f stop_prim stop_prim+f stop_both stop_both+f start_both",
            "start_prim start_sec",
        ),
        ("STOP->WAIT", "transition prestart", ""),
        (
            "WAIT->STOP",
            "stop_sec+f stop_prim+f stop_second+f stop_both+f poststop transition",
            "",
        ),
    ],
)
def test_traffic_opens_after_start_both_and_closes_after_stop_both(
    kind: str, before: str, after: str
) -> None:
    parts = around_traffic(kind)
    told = [" ".join(f"{s.name}{'+f' if s.force else ''}" for s in part) for part in parts]
    assert told == [before, after]
