"""Settings of a what-if: what they are called, what follows from them, and what is refused."""

import msgspec
import pytest

from mirrorfarm.actors.effects import Later
from mirrorfarm.actors.heartbeat.core import Heartbeat, WatchDue
from mirrorfarm.errors import UsageInvalid
from mirrorfarm.modules.settings import PROFILES, Farm, FarmTiming, HeartbeatNetwork, Module
from mirrorfarm.sim.fork.recording import Recording
from mirrorfarm.sim.fork.settings import (
    Settings,
    changed,
    parse,
    require_scripts,
    resettle,
    retimed,
)
from tests.modules.test_farmconfig import farm_of, service

MS = 1_000_000
NODES = ("n1", "n2", "w")
MODULE = Module(
    "app",
    1,
    ("n1", "n2"),
    timing=PROFILES["default"],
    heartbeats=(
        HeartbeatNetwork("red", "red", 250 * MS, 2_000 * MS),
        HeartbeatNetwork("blue", "blue", 100 * MS, 700 * MS),
    ),
)


def test_several_values_are_as_many_variants() -> None:
    found = parse(("heart.detection=0.3s,30s", "n2.fsync_ms=800"), NODES)
    assert [str(one) for one in found] == [
        "heart.detection=300 ms n2.fsync=800 ms",
        "heart.detection=30 s n2.fsync=800 ms",
    ]
    assert found[0].plain() == {"heart.detection": 300 * MS, "n2.fsync": 800 * MS}
    assert parse((), NODES) == [Settings()]
    assert parse(("heartbeat.silence=3s",), NODES) == parse(("heart.timeout=3s",), NODES)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("heart.detecton=3s", "did you mean heart.detection"),
        ("n3.fsync=3ms", "not known"),
        ("n1.colour=3ms", "not known"),
        ("heart.detection", "write KEY=VALUE"),
        ("heart.detection=soon", "not a duration"),
        ("heart.detection=-3s", "not within"),
        ("heart.detection=", "not a duration"),
        ("farm.silent=1s", "did you mean farm.silence"),
        ("farm.slost_count=1s", "'1s' is not a whole number"),
        ("farm.pulse=100", "not a duration"),
    ],
)
def test_unknown_settings_and_values_are_refused_with_the_cure(word: str, why: str) -> None:
    with pytest.raises(UsageInvalid, match=f"--set.*{why}"):
        parse((word,), NODES)


@pytest.mark.parametrize(
    "words",
    [
        ("heart.detection=1s", "heart.detection=2s"),
        ("heart.detection=1s", "heart.timeout=2s"),
        ("n1.fsync=1ms", "n1.fsync_ms=2"),
    ],
)
def test_what_is_set_twice_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageInvalid, match="is set already; write all of its values once"):
        parse(words, NODES)


def test_a_witness_runs_no_scripts() -> None:
    (found,) = parse(("w.fsync_ms=5",), NODES[:2], "w")
    assert found.plain() == {"w.fsync": 5 * MS}
    with pytest.raises(UsageInvalid, match="not known"):
        parse(("w.start_prim=5s",), NODES[:2], "w")


def test_lease_and_networks_follow_as_in_userconfig() -> None:
    module = changed(MODULE, Settings({"heart.detection": 4_000 * MS}))
    assert module.timing.lease_ns == 5_000 * MS
    assert [one.timeout_ns for one in module.heartbeats] == [4_000 * MS, 700 * MS]
    module = changed(MODULE, Settings({"heart.detection": 4_000 * MS, "heart.lease": 4_100 * MS}))
    assert module.timing.lease_ns == 4_100 * MS
    assert changed(MODULE, Settings()) is MODULE


def test_what_no_module_may_have_is_refused() -> None:
    with pytest.raises(UsageInvalid, match="not longer than 3 pulses"):
        changed(MODULE, Settings({"heart.detection": 300 * MS}))


def test_a_pulse_that_a_network_keeps_must_fit_too() -> None:
    slow = HeartbeatNetwork("green", "green", 600 * MS, 2_000 * MS)
    module = msgspec.structs.replace(MODULE, heartbeats=(*MODULE.heartbeats, slow))
    why = "heartbeat.pulse: heart.detection of 1000 ms is not longer than 3 pulses of 600 ms"
    with pytest.raises(UsageInvalid, match=why):
        changed(module, Settings({"heart.detection": 1_000 * MS}))


FARM = Module("web", 1, ("n1", "n2", "n3"), "farm", farm=Farm(timing=FarmTiming(slow_start_ns=9)))


@pytest.mark.parametrize(
    ("words", "pulse", "silence", "lease"),
    [
        (("farm.pulse=50ms",), 50, 200, 325),
        (("farm.slost_count=10",), 100, 1_000, 1_250),
        (("farm.silence=1s",), 100, 1_000, 1_250),
        (("farm.pulse=0.5s", "farm.silence=3s"), 500, 3_000, 4_250),
    ],
)
def test_all_clocks_of_a_farm_follow_as_in_userconfig(
    words: tuple[str, ...], pulse: int, silence: int, lease: int
) -> None:
    (settings,) = parse(words, NODES)
    timing = changed(FARM, settings).farm.timing
    assert (timing.pulse_ns, timing.silent_ns) == (pulse * MS, silence * MS)
    assert (timing.lease_ns, timing.slow_start_ns) == (lease * MS, 9)
    file = '<farm pulse="{}ms" slost_count="{}" slow_start="0s"><lan name="default"/></farm>'
    written = farm_of(service(file.format(pulse, silence // pulse))).timing
    assert timing == msgspec.structs.replace(written, slow_start_ns=9)


def test_a_count_is_a_number_where_all_others_are_durations() -> None:
    found = parse(("farm.slost_count=4,10", "farm.pulse=50ms"), NODES)
    assert [str(one) for one in found] == [
        "farm.slost_count=4 farm.pulse=50 ms",
        "farm.slost_count=10 farm.pulse=50 ms",
    ]
    assert found[1].plain() == {"farm.slost_count": 10, "farm.pulse": 50 * MS}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("farm.pulse=5ms",), "no module may have that: farm.pulse: 5 ms is shorter than 20 ms"),
        (("farm.pulse=0s",), "farm.pulse: 0 ms is shorter than 20 ms"),
        (("farm.slost_count=2",), "farm.slost_count: 2 is not within 3 to 28"),
        (("farm.silence=3s",), "farm.slost_count: 30 is not within 3 to 28, in pulses of 100 ms"),
        (("farm.silence=450ms",), "not a number of pulses of 100 ms: set farm.pulse, too"),
        (("farm.silence=1s", "farm.slost_count=10"), "says the same: give one of them"),
        (("heart.detection=1s",), "web is a farm, which has no heart.detection; its .*farm.pulse"),
    ],
)
def test_what_no_farm_may_have_is_refused(words: tuple[str, ...], why: str) -> None:
    (settings,) = parse(words, NODES)
    with pytest.raises(UsageInvalid, match=f"^--set {words[0][:8]}.*{why}"):
        changed(FARM, settings)


def test_a_mirror_has_no_clocks_of_a_farm() -> None:
    with pytest.raises(
        UsageInvalid, match=r"app is a mirror, which has no farm.pulse; its .*heart"
    ):
        changed(MODULE, Settings({"farm.pulse": 50 * MS}))


def test_a_script_that_a_node_lacks_cannot_take_longer() -> None:
    missing = {"n1": {"start_both", "transition"}}
    (both,) = parse(("n1.start_both=5s",), NODES)
    with pytest.raises(
        UsageInvalid,
        match=r"^--set n1.start_both=5 s: app is a mirror, which has no start_both on n1; .*_prim",
    ):
        require_scripts(MODULE, both, missing)
    for settings in parse(("n1.start_prim=5s", "n2.start_both=5s", "n1.fsync=5ms"), NODES):
        require_scripts(MODULE, settings, missing)


def test_a_node_may_be_called_as_the_clocks_are() -> None:
    (found,) = parse(("farm.pulse=50ms",), ("farm", "heart"))
    assert found.module == {"farm.pulse": 50 * MS}


def test_every_core_goes_on_with_the_new_clocks(before: Recording) -> None:
    module = changed(before.module, Settings({"heart.detection": 4_000 * MS}))
    told = []
    for (_, process), running in before.processes.items():
        for actor, state in running.states.items():
            core = state.restored()
            resettle(core, module)
            if process == "ledger" and actor not in {"vip", "guard"}:
                text = str(core)
                told.append(actor)
                assert "lease_ns=5000000000" in text or "timeout_ns=4000000000" in text, actor
                assert "lease_ns=2500000000" not in text, actor
    assert sorted(set(told)) == ["arbiter", "checker", "heartbeat", "module", "scripts"]


def test_a_silence_is_looked_for_when_the_shorter_timeout_wants_it() -> None:
    core = Heartbeat("n1", "n2", "app", MODULE.heartbeats, 2_000 * MS)
    core._peer_heard_ns = 1_000 * MS
    for hearing in core._hearings.values():
        hearing.heard_ns = 1_000 * MS
    resettle(core, changed(MODULE, Settings({"heart.detection": 800 * MS})))
    timer = Later(3_000 * MS, WatchDue(0, 3_000 * MS))
    assert retimed("heartbeat", timer, core, 1_100 * MS).at_ns == 1_700 * MS  # Of network blue.
    other = Later(3_000 * MS, "something else")
    assert retimed("module", other, core, 1_100 * MS) is other
