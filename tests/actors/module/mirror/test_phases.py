"""The graph of the phases has no dead end and no phase that is never reached."""

from mirrorfarm.actors.module.mirror.phases import FOLLOWERS, LEADERS, MOVES, RUNNING, Phase


def reached(start: Phase) -> set[Phase]:
    found, new = {start}, [start]
    while new:
        for phase in MOVES[new.pop()] - found:
            found.add(phase)
            new.append(phase)
    return found


def test_every_phase_can_be_reached_and_left_for_stop() -> None:
    assert reached(Phase.STOPPED) == set(Phase)
    for phase in Phase:
        assert Phase.STOPPED in reached(phase)


def test_only_the_arbiters_answer_makes_a_leader() -> None:
    entries = {phase for phase in Phase if MOVES[phase] & set(LEADERS)} - set(LEADERS)
    assert entries == {Phase.WAITING, Phase.ASKING, *FOLLOWERS}
    for phase in entries:
        assert MOVES[phase] & set(LEADERS) == {Phase.TAKING}


def test_who_runs_the_application_leads() -> None:
    assert set(RUNNING) < set(LEADERS)
    assert not set(LEADERS) & set(FOLLOWERS)
