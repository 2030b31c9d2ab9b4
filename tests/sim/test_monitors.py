"""Each monitor sees the steps that break its invariant, and lets the honest ones pass."""

from typing import Any

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.replicator.core import PlaneStorage
from mirrorfarm.limits import SECOND_NS, WISHES_MAX
from mirrorfarm.modules.settings import PROFILES, FarmTiming
from mirrorfarm.sim.monitors import Violation, Watch, seen
from mirrorfarm.sim.monitors.all import MIRROR, RECORDED, TIMELESS
from mirrorfarm.sim.monitors.farm import FARM, FarmFacts
from mirrorfarm.sim.monitors.liveness import set_bounds
from mirrorfarm.sim.steps import Step
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Announcement, Register

ADMIN = Address("n1", "cli-1", "cli")
BOTH = ("n1", "n2")
FIRST = Register(1, 1, "n1", ("n1",), "g", "i")
GROWN = Register(1, 2, "n1", BOTH, "g", "i")
SECOND = 1_000_000_000


def world(event: Any, node: str = "n1", at: int = 0) -> tuple[int, Step]:
    return at, Step(node, "app", "world", at, event)


def installed(register: Register) -> tuple[int, Step]:
    return world(seen.RegisterDurable("app", register, own=False), "w1")


def recorded(node: str = "n1", **fields: Any) -> tuple[int, Step]:
    usual: dict[str, Any] = {"term": 1, "cons": True, "was": "prim", "inc": 1}
    record = NodeRecord(**(usual | fields))
    return world(seen.RecordDurable("app", record), node)


def begun(node: str = "n1", incarnation: int = 1) -> tuple[int, Step]:
    return world(seen.Begun("app", incarnation, "boot-1"), node)


def acted(actor: str, event: Any, *effects: Any, node: str = "n1", at: int = 0) -> tuple[int, Step]:
    return at, Step(node, "app", actor, at, event, effects)


def knows(register: Register) -> tuple[int, Step]:
    return acted("module", ev.RegisterKnown(1, "ok", register, 0))


def says(role: str, status: str = "Ready", node: str = "n1", at: int = 0, **more: Any) -> Any:
    about = Announcement(role=role, status=status, term=1, **more)
    return acted("module", ev.Started(), fx.Tell("heartbeat", ev.Announce(about)), node=node, at=at)


def wrote(write: int, node: str = "n1", term: int = 1, sid: int = 0) -> tuple[int, Step]:
    return world(seen.Wrote(write, write, term, sid), node)


def told(write: int, node: str = "n1", term: int = 1, at: int = 0) -> tuple[int, Step]:
    return world(seen.Told(write, write, term), node, at)


def ordered(verb: str, *arguments: Any) -> tuple[int, Step]:
    return 0, Step(
        "n1", "app.replica", "replicator", 0, ev.Started(), (fx.PlaneOrder(verb, arguments),)
    )


def plane(role: str) -> tuple[int, Step]:
    answer = fx.Send(Address("n1", "app", "module"), msg.PlaneIs(1, role, 1, "frozen", 0))
    return 0, Step("n1", "app.replica", "replicator", 0, ev.Started(), (answer,))


def runs(*names: str) -> tuple[int, Step]:
    scripts = [fx.StartScript(1, name, (), 1) for name in names]
    return acted("scripts", ev.Started(), *scripts)


LEADS = [begun(), recorded(), installed(FIRST), knows(FIRST)]
PAIR = [*LEADS, recorded("n2", was="second"), installed(GROWN), knows(GROWN)]
TERM2 = Register(2, 2, "n2", ("n2",), "g", "i")
START = fx.StartScript(1, "start_prim", (), 1)
OFFER = ev.Received(Address("n1", "app", "module"), msg.SyncOffer(1, 2, "full", "g", "", (), 1))
ORDER = ev.Received(ADMIN, msg.Command("r1", "stop", "me"))
DONE = fx.Send(ADMIN, msg.CommandResult("r1", "done", ""))
RUNS = world(seen.AppRuns("app", True))
GUARDS = acted("guard", ev.Started(), fx.GuardOrder(SECOND))
FREES = fx.GuardOrder(0)

# Which invariant, what happens, and the last step, which breaks it.
BROKEN: list[tuple[str, list[tuple[int, Step]], tuple[int, Step]]] = [
    ("S1", [*LEADS, wrote(1), told(1), wrote(2, "n2")], told(2, "n2")),
    ("S2", [begun(), recorded(term=3), installed(FIRST), wrote(1, term=3)], told(1, term=3)),
    ("S2", LEADS, ordered("gate", 1, 9, 0, "self", "", False)),
    ("S3", [*PAIR, wrote(1)], told(1)),
    ("S4", [*LEADS, world(seen.Told(1, 1, 1))], says("ALONE", phase="leading")),
    ("S5", [installed(FIRST)], installed(TERM2)),
    ("S6", PAIR, ordered("gate", 1, 1, 0, "self", "", False)),
    ("S7", [*LEADS, wrote(1), told(1), recorded("n2", was="second")], installed(GROWN)),
    ("S7", [*LEADS, recorded("n2", cons=False)], installed(GROWN)),
    ("S8", [recorded(cons=False)], acted("scripts", ev.Started(), START)),
    ("S8", [recorded(), installed(TERM2)], acted("scripts", ev.Started(), START)),
    ("S8", [recorded(), plane("off")], acted("scripts", ev.Started(), START)),
    (
        "S8",
        [recorded(), plane("lead"), ordered("unmount", 1, True, False)],
        acted("x", ORDER, START),
    ),
    (
        "S8",
        [*LEADS, plane("lead"), world(seen.AppRuns("app", True))],
        ordered("unmount", 1, False, False),
    ),
    ("S9", [recorded(term=2, sid=3)], recorded(term=2, sid=2)),
    ("S9", [recorded(inc=2)], recorded(inc=1)),
    ("S9", [installed(FIRST)], installed(Register(1, 3, "n1", BOTH, "g", "i"))),
    ("S10", [recorded(term=2, sid=2)], wrote(1, term=2, sid=1)),
    ("S10", [recorded(term=2)], ordered("mount_lead", 1, 1, "")),
    ("S11", [*LEADS, begun(incarnation=2)], ordered("gate", 1, 1, 0, "self", "", False)),
    ("S12", [recorded(cons=False)], says("ALONE")),
    (
        "S12",
        [installed(GROWN), recorded("n2", cons=False)],
        installed(Register(2, 3, "n2", BOTH, "g", "i")),
    ),
    (
        "S12",
        [recorded("n2"), acted("module", OFFER, node="n2"), wrote(1, "n2", sid=2)],
        says("ALONE", node="n2"),
    ),
    ("S13", [*PAIR, wrote(1)], world(seen.Settled())),
    ("S14", [world(seen.Wrote(1, 5, 1, 1), "n2")], world(seen.Wrote(1, 4, 1, 1), "n2")),
    ("R10", [recorded(gen_cur="g")], recorded(term=2, gen_cur="h", lone=True)),
    ("S16", [world(seen.Invoked(1, 7))], world(seen.Wrote(8, 1, 1, 0))),
    (
        "S17",
        [
            *LEADS,
            ordered("gate", 1, 1, 0, "self", "", False),
            acted("replicator", PlaneStorage("data", 5, "")),
            wrote(1),
        ],
        told(1),
    ),
    (
        "S17",
        [
            *LEADS,
            ordered("gate", 1, 1, 0, "self", "", False),
            acted("replicator", PlaneStorage("data", 5, "")),
            world(seen.RecordGone("app")),  # It still knows of the term.
            wrote(1),
        ],
        told(1),
    ),
    (
        "S17",
        [
            *LEADS,
            ordered("gate", 1, 1, 0, "self", "", False),
            acted("replicator", PlaneStorage("data", 5, "")),
            world(seen.RegisterGone("app"), "w1"),  # It still knows of the term.
            wrote(1),
        ],
        told(1),
    ),
    ("X1", [world(seen.AppRuns("app", True))], world(seen.AppRuns("app", True), "n2")),
    ("X2", [world(seen.VipIs("app", True))], world(seen.VipIs("app", True), "n2")),
    (
        "X3",
        [*LEADS, acted("guard", ev.Started(), fx.GuardOrder(SECOND)), wrote(1)],
        told(1, at=2 * SECOND),
    ),
    ("X5", PAIR, RUNS),
    ("X5", [*PAIR, GUARDS, RUNS], acted("guard", ORDER, FREES)),
    ("X5", [*LEADS, RUNS], installed(GROWN)),
    ("X6", [runs("start_both")], runs("start_both")),
    ("X6", [runs("start_both", "start_second")], runs("start_prim")),
    ("X6", [runs("start_second", "stop_prim")], says("STOP", phase="stopped")),
    ("X6", [runs("start_both", "start_prim", "start_sec"), says("PRIM")], world(seen.Settled())),
    ("X7", [], says("ALONE", phase="leading")),
    ("X7", [world(seen.VipIs("app", True))], says("WAIT", phase="waiting")),
    ("X7", [RUNS], says("SECOND", phase="following")),
    ("X7", [says("SECOND", phase="syncing"), RUNS], world(seen.Settled())),
    ("L1", [world(seen.Calm("power"))], says("ALONE", node="n2", at=99 * SECOND)),
    ("L2", [world(seen.Calm("return"))], says("SECOND", node="n2", at=99 * SECOND)),
    ("L2", [world(seen.Calm("return"))], world(seen.AppRuns("app", False))),
    ("L3", [says("PRIM"), world(seen.Calm("witness"))], says("WAIT")),
    ("L4", [], world(seen.Settled("n1 waits"))),
    (
        "L6",
        [*LEADS, world(seen.Calm("peer stops")), world(seen.Invoked(1, 1)), wrote(1)],
        told(1, at=99 * SECOND),
    ),
    ("L7", [acted("module", ORDER)], acted("module", ev.ArbiterHeard(), DONE, at=9_999 * SECOND)),
    ("L7", [acted("module", ORDER)], world(seen.Settled(), at=11 * SECOND)),
    ("L8", [], world(seen.Depths(2_000, 1))),
    ("L8", [], world(seen.Depths(1, 2_000))),
    ("L8", [], acted("vip", ev.ArbiterTick(), *[fx.Later(n, ev.Started()) for n in range(1, 99)])),
]


def feed(watch: Watch, steps: list[tuple[int, Step]]) -> None:
    for at, step in steps:
        watch.step(step, at)


def mirror(name: str) -> Watch:
    kinds = [kind for kind in MIRROR if kind.id == name]
    watch = Watch(kinds, simulated=True, strict=True)
    set_bounds(watch, PROFILES["fast"], SECOND_NS)
    return watch


@pytest.mark.parametrize(
    "ends", [None, seen.Died("app"), seen.PowerLost((), 1), ev.Started()], ids=str
)
def test_an_order_that_is_never_answered_is_seen_at_the_end_if_its_process_lives(ends: Any) -> None:
    watch = mirror("L7")
    feed(watch, [acted("module", ORDER)])
    if ends is not None:
        feed(watch, [acted("module", ends, at=SECOND_NS)])
    feed(watch, [acted("arbiter", ev.Started(), at=901 * SECOND_NS, node="n2")])
    if ends is None:
        with pytest.raises(Violation, match="L7: n1 has not ended command r1 after 901 s"):
            watch.finish()
    else:
        assert not watch.finish()


@pytest.mark.parametrize(("name", "before", "last"), BROKEN)
def test_a_broken_invariant_is_seen_at_the_step_that_breaks_it(
    name: str, before: list[tuple[int, Step]], last: tuple[int, Step]
) -> None:
    watch = mirror(name)
    feed(watch, before)
    with pytest.raises(Violation, match=f"^{name}: ") as caught:
        feed(watch, [last])
    assert caught.value.story


def test_a_role_that_goes_up_and_down_is_flapping() -> None:
    watch = mirror("L5")
    feed(watch, [world(seen.Calm())])
    moves = [says(role, at=n) for n in range(9) for role in ("ALONE", "WAIT")]
    with pytest.raises(Violation, match="L5"):
        feed(watch, moves)


def test_a_superseded_primary_that_goes_on_is_told_as_a_number() -> None:
    watch = mirror("X4")
    feed(watch, [begun(), world(seen.AppRuns("app", True)), installed(TERM2)])
    feed(watch, [world(seen.AppRuns("app", False), at=SECOND)])
    assert watch.monitors["X4"].longest_ns == SECOND  # type: ignore[attr-defined]
    feed(watch, [world(seen.AppRuns("app", True)), installed(TERM2)])
    with pytest.raises(Violation, match="X4"):
        feed(watch, [world(seen.AppRuns("app", False), at=9 * SECOND)])


def test_what_a_plane_let_in_is_answered_until_it_says_that_it_is_off() -> None:
    watch = mirror("S11")
    feed(
        watch, [*LEADS, begun(incarnation=2), told(1), ordered("unmount", 1, True, False), told(2)]
    )
    feed(watch, [plane("off")])
    with pytest.raises(Violation, match="S11"):
        feed(watch, [told(3)])


def replica_begins(boot: str = "boot-1") -> tuple[int, Step]:
    return 0, Step("n1", "app.replica", "world", 0, seen.Begun("app.replica", 1, boot), ())


STARTS = acted("scripts", ev.Started(), START)


def test_what_is_dead_is_not_bared_until_it_is_unmounted_or_the_machine_boots() -> None:
    begins = [*LEADS, replica_begins(), plane("lead"), RUNS]
    watch = mirror("S8")
    feed(watch, [*begins, ordered("unmount", 1, False, True), plane("off"), STARTS])
    with pytest.raises(Violation, match="bares the directories"):
        feed(watch, [ordered("unmount", 2, False, False)])
    killed = mirror("S8")
    feed(killed, [*begins, replica_begins(), plane("off"), STARTS, replica_begins(), STARTS])
    with pytest.raises(Violation, match="bares the directories"):
        feed(killed, [ordered("mount_follow", 1, 1)])
    booted = mirror("S8")
    feed(booted, [*begins, replica_begins("boot-2"), plane("off")])
    with pytest.raises(Violation, match="before its directories are mounted"):
        feed(booted, [STARTS])


def test_a_plane_becomes_what_it_was_wished_to_be_until_it_hears_of_a_new_wish() -> None:
    def wished(incarnation: int) -> tuple[int, Step]:
        wish = msg.PlaneWish(incarnation * WISHES_MAX + 1, "lead", 1)
        event = ev.Received(Address("n1", "app", "module"), wish)
        return 0, Step("n1", "app.replica", "replicator", 0, event, ())

    opens = ordered("gate", 1, 1, 0, "self", "", False)
    watch = mirror("S11")
    feed(watch, [*LEADS, wished(1), begun(incarnation=2), opens, wished(2)])
    with pytest.raises(Violation, match="S11"):
        feed(watch, [opens])


def test_a_register_that_is_gone_supersedes_nobody() -> None:
    watch = mirror("X4")
    feed(watch, [begun(), world(seen.AppRuns("app", True)), installed(TERM2)])
    feed(watch, [world(seen.RegisterGone("app"), at=SECOND)])
    feed(watch, [world(seen.AppRuns("app", False), at=9 * SECOND)])
    assert watch.monitors["X4"].longest_ns == 0  # type: ignore[attr-defined]


def test_a_write_that_is_nowhere_any_more_is_missed_without_a_register_too() -> None:
    watch = mirror("S15")
    watch.facts.module("app").advisory = True
    feed(watch, [wrote(1), told(1)])
    with pytest.raises(Violation, match="S15"):
        feed(watch, [world(seen.Wrote(1, 0, 2, 1))])


def test_what_becomes_up_has_no_data_that_could_be_stale() -> None:
    """A farm's record says nothing of a copy."""
    watch = mirror("S8")
    start = fx.StartScript(1, "start_prim", ("WAIT", "UP", "start"), 1)
    feed(watch, [recorded(cons=False), acted("scripts", ev.Started(), start)])
    assert watch.violations == []


def test_a_record_that_rots_while_the_arbiter_counts_its_node_in_was_whole() -> None:
    gone = world(seen.RecordGone("app"), "n2")
    feed(mirror("S7"), [*LEADS, recorded("n2", was="second"), gone, installed(GROWN)])
    with pytest.raises(Violation, match="S7"):
        feed(mirror("S7"), [*LEADS, recorded("n2", cons=False), gone, installed(GROWN)])
    whole, empty = recorded("n2", was="second"), recorded("n2", cons=False, term=0, was="idle")
    feed(mirror("S7"), [*LEADS, whole, gone, empty, installed(GROWN)])
    copied = recorded("n2", cons=False, was="second")
    with pytest.raises(Violation, match="S7"):
        feed(mirror("S7"), [*LEADS, whole, gone, empty, copied, installed(GROWN)])


def test_a_guard_that_acted_before_its_module_heard_of_it_took_the_addresses_away() -> None:
    watch = mirror("X7")
    serves = says("PRIM", phase="leading", at=3 * SECOND)
    gone = world(seen.VipIs("app", False), at=2 * SECOND)
    feed(watch, [world(seen.VipIs("app", True)), GUARDS, gone, serves])
    feed(watch, [world(seen.VipIs("app", True)), world(seen.VipIs("app", False))])
    with pytest.raises(Violation, match="X7"):
        feed(watch, [serves])


def test_an_order_that_was_just_given_may_be_open_when_all_is_in_service() -> None:
    watch = mirror("L7")
    feed(watch, [acted("module", ORDER), world(seen.Settled(), at=SECOND)])
    assert watch.violations == []


def test_an_application_that_starts_on_mounted_directories_is_right() -> None:
    watch = mirror("S8")
    feed(watch, [recorded(), plane("off"), plane("lead"), acted("scripts", ev.Started(), START)])
    assert watch.violations == []


def test_every_invariant_has_its_monitor_and_a_way_to_fail() -> None:
    wanted = {f"S{n}" for n in range(1, 18)} | {f"X{n}" for n in range(1, 8)}
    wanted |= {f"L{n}" for n in range(1, 9)} | {"R10"}
    assert {kind.id for kind in MIRROR} == wanted
    assert {kind.id for kind in FARM} == {f"F{n}" for n in range(1, 9)} | {"L5", "L8"}
    assert {name for name, _, _ in BROKEN} | {"L5", "X4", "S15"} == wanted


def test_those_without_a_time_are_part_of_the_one_list_in_its_order() -> None:
    timeless = ["S1", "S2", *(f"S{n}" for n in range(5, 13)), "R10"]
    assert [kind.id for kind in TIMELESS] == timeless
    assert [kind.id for kind in RECORDED] == [*timeless, "X1", "X2", "X3", "L7", "L8"]
    assert [kind.id for kind in FARM if kind.timeless] == ["F3", "F4"]


def test_what_the_faults_of_a_run_allow_is_counted_and_not_told() -> None:
    watch = mirror("X1")
    watch.allowed = {"X1": (1 << 62, "suspend")}
    feed(watch, [world(seen.AppRuns("app", True)), world(seen.AppRuns("app", True), "n2")])
    assert (watch.excused, watch.violations) == (1, [])


def test_recorded_steps_are_checked_without_a_simulation() -> None:
    """The disk's answers say what a simulation sees: here a register that skips a version."""
    watch = Watch(MIRROR)
    for counter, ver in ((1, 1), (2, 3)):
        store = fx.RegisterStore("c", "app", Register(1, ver, "n1", ("n1",), "g", "i"), counter)
        for event, effects in ((ev.Started(), (store,)), (ev.RegisterStored(counter), ())):
            watch.step(Step("w1", "witness", "register", counter, event, effects))
    assert watch.finish() == ["S9: version 1 is followed by 3"]


# --- farms -----------------------------------------------------------------------------------

ALL = b"\xff" * 128
HALF = b"\xff" * 64 + bytes(64)
LONG = 10**12


def farm(name: str) -> Watch:
    kinds = [kind for kind in FARM if kind.id == name]
    return Watch(kinds, simulated=True, strict=True, farm=FarmFacts(FarmTiming(), simulated=True))


def filters(node: str, opened: bytes, frozen: int = 0, at: int = 0) -> tuple[int, Step]:
    return world(seen.FilterIs((opened,), LONG, frozen), node, at)


OPEN = [filters("n1", ALL, at=1), filters("n2", bytes(128), at=1), world(seen.Apart(()), at=2)]
LATE = 100 * SECOND

FARMS: list[tuple[str, list[tuple[int, Step]], tuple[int, Step]]] = [
    ("F1", OPEN, world(seen.Packet(1, "", 0, BOTH), at=LATE)),
    ("F2", OPEN, filters("n2", HALF, at=LATE)),
    ("F3", OPEN, world(seen.Settled(), at=LONG + 1)),
    ("F3", [filters("n1", HALF)], world(seen.Settled(), at=LATE)),
    ("F5", [*OPEN, filters("n1", ALL, at=3)], world(seen.Packet(1, "n1", 50, ("n2",)), at=LATE)),
    ("F7", OPEN, filters("n2", HALF, at=LATE)),
    ("F8", [filters("n1", ALL, frozen=1)], world(seen.Packet(1, "", 0, ("n1",)), at=LATE)),
]


@pytest.mark.parametrize(("name", "before", "last"), FARMS)
def test_a_broken_invariant_of_a_farm_is_seen(
    name: str, before: list[tuple[int, Step]], last: tuple[int, Step]
) -> None:
    watch = farm(name)
    feed(watch, before)
    if (name, last[0]) == ("F3", LONG + 1):
        feed(watch, [last])  # Nobody answers: there is nothing to compare.
        return
    with pytest.raises(Violation, match=f"^{name}: "):
        feed(watch, [last])


def picture(view: int, owners: bytes, members: tuple[str, ...], nodes: tuple[str, ...]) -> Any:
    known = tuple(ev.FarmNode(n, n in members, "", "in", (1,), (1,), (0,), 0, ()) for n in nodes)
    news = ev.FarmPicture(view, True, True, "", "", 0, "n1", known, (0,), 0, 0, members, (owners,))
    return acted("farm_filter", ev.FarmWish("in"), fx.Tell("module", news))


def test_a_view_that_moves_what_need_not_move_is_seen() -> None:
    watch = farm("F4")
    three = ("n1", "n2", "n3")
    feed(watch, [picture(1, bytes([0, 1] * 512), BOTH, three)])
    with pytest.raises(Violation, match="F4"):
        feed(watch, [picture(2, bytes([1, 0] * 512), three, three)])


def test_a_member_that_comes_back_too_early_again_and_again_is_seen() -> None:
    watch = farm("L5")
    three = ("n1", "n2", "n3")
    whole, left = bytes([0, 1, 2, 0] * 256), bytes([0, 1] * 512)
    feed(watch, [picture(1, whole, three, three), picture(2, left, BOTH, three)])
    feed(watch, [picture(3, whole, three, three), picture(4, left, BOTH, three)])  # Once it may.
    with pytest.raises(Violation, match="L5: n3 left 2 times"):
        feed(watch, [picture(5, whole, three, three)])


def test_a_generation_that_begins_with_a_write_is_no_fault() -> None:
    watch = mirror("R10")
    feed(watch, [recorded(gen_cur="g"), world(seen.Invoked(1, 1))])
    feed(watch, [recorded(gen_cur="h", lone=True)])
    assert not watch.violations
