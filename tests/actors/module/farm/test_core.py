"""A farm node starts, serves, drains and stops, told as stories."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.farm.core import FarmTick
from mirrorfarm.actors.module.farm.phases import MOVES, Phase
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import Farm
from mirrorfarm.transport import messages as msg
from tests.actors.module.farm.building import ADMIN, Hand, core, node, picture

DRAINING = picture(node("n1", wish="drain", buckets=(0,)), node("n2"), draining=9, connections=4)
DRAINED = picture(node("n1", wish="drain", buckets=(0,)), node("n2"))


def test_a_new_process_removes_what_its_predecessor_left_then_waits() -> None:
    hand = Hand(core()).give(ev.Started())
    assert hand.acts() == ["<kill>", "<vip down>"]
    assert hand.words() == "STOP NotReady"
    assert hand.state()["command"] == "mirrorfarm -H n1 start -m web"


def test_traffic_opens_right_after_start_both() -> None:
    hand = Hand(core()).give(ev.Started()).forget().order("start")
    assert hand.acts() == [
        "transition", "prestart", "<vip up>", "transition",
        "start_both", "<in>", "start_prim", "start_sec",
    ]  # fmt: skip
    assert hand.words() == "UP Ready"
    assert [outcome for outcome, _ in hand.outcomes()] == ["accepted", "done"]


def test_a_stop_drains_then_stops_and_closes_traffic_just_after_stop_both() -> None:
    hand = Hand(core()).up().forget().order("stop")
    assert hand.acts() == ["<drain>"]
    assert hand.words() == "UP Transient"
    hand.give(DRAINING)
    assert hand.state()["reason"] == "drains: 4 connections live, no new ones"
    assert hand.state()["farm"]["draining"]["connections"] == 4
    hand.give(DRAINED)
    assert hand.acts()[1:] == [
        "stop_sec", "stop_prim", "stop_both", "<away>", "transition", "<vip down>",
        "stop_sec+f", "stop_prim+f", "stop_second+f", "stop_both+f", "poststop", "transition",
        "<kill>",
    ]  # fmt: skip
    assert hand.words() == "STOP NotReady"
    assert hand.outcomes()[-1] == ("done", "n1 is STOP NotReady")


def test_connections_are_not_waited_for_beyond_the_limit() -> None:
    hand = Hand(core(farm=Farm(drain_ns=5 * SECOND_NS))).up().order("stop").give(DRAINING)
    hand.now += 4 * SECOND_NS
    hand.give(FarmTick())
    assert hand.words() == "UP Transient"
    hand.now += 2 * SECOND_NS
    hand.give(FarmTick())
    assert hand.words() == "STOP NotReady"
    assert any("4 connections are cut" in fact["text"] for fact in hand.state()["facts"])


def test_the_last_node_does_not_wait_for_connections() -> None:
    away = node("n2", member=False, wish="away")
    hand = Hand(core()).up().give(picture(node("n1"), away)).order("stop")
    assert hand.words() == "STOP NotReady"


@pytest.mark.parametrize("words", [("nodrain",), ()])
def test_an_administrator_in_a_hurry_skips_the_drain(words: tuple[str, ...]) -> None:
    hand = Hand(core()).up().order("stop").give(DRAINING)
    hand.order("stop" if words else "forcestop", *words)
    assert hand.words() == "STOP NotReady"
    assert ("stop_both" in hand.acts()) == bool(words)


def test_a_restart_runs_scripts_only_while_the_others_take_the_new_clients() -> None:
    hand = Hand(core()).up().forget().order("restart")
    assert hand.acts() == [
        "<drain>",
        "stop_sec", "stop_sec+f", "stop_prim", "stop_prim+f", "stop_both", "stop_both+f",
        "start_both", "<in>", "start_prim", "start_sec",
    ]  # fmt: skip
    assert hand.words() == "UP Ready"


def test_stopstart_brings_the_node_back() -> None:
    hand = Hand(core()).up().order("stopstart").give(DRAINED)
    assert hand.words() == "UP Ready"
    assert hand.outcomes()[-1][0] == "done"
    actions = [e.event.action for e in hand.said if _is_run(e)]
    assert actions == [*["start"] * 3, *["stopstart"] * 3, *["start"] * 3]


def _is_run(effect: Any) -> bool:
    return isinstance(effect, fx.Tell) and isinstance(effect.event, ev.RunSequence)


def test_with_scriptcontrol_the_scripts_open_the_traffic() -> None:
    hand = Hand(core(farm=Farm(script_control=True))).up()
    assert "<in>" not in hand.acts()
    assert hand.state()["reason"] == "the module's scripts have not opened the traffic"
    hand.order("traffic", "open")
    assert hand.acts()[-1] == "<in>"
    assert hand.state()["reason"] == ""
    hand.order("traffic", "close")
    assert hand.acts()[-1] == "<drain>"
    hand.order("stop", "nodrain")
    assert "<away>" in hand.acts()


def test_a_script_that_opens_the_traffic_is_answered_while_it_runs() -> None:
    hand = Hand(core(farm=Farm(script_control=True)), obedient=False).give(ev.Started())
    for _ in range(2):
        hand.go_on()
    hand.order("start")
    for _ in range(3):
        hand.go_on()
    assert hand.words() == "UP Transient"
    hand.order("traffic", "open", request="t")
    assert hand.outcomes()[-1][0] == "done"


@pytest.mark.parametrize(
    ("verb", "words", "why"),
    [
        ("swap", (), "swap is for mirrors"),
        ("dance", (), "unknown verb"),
        ("power", (), "power needs a number"),
        ("power", ("-1",), "power needs a number"),
        ("power", ("5", "nosuch"), "no load-balancing group 'nosuch': there are default"),
        ("traffic", ("open",), "without scriptcontrol"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(
    verb: str, words: tuple[str, ...], why: str
) -> None:
    hand = Hand(core()).up().order(verb, *words)
    outcome, text = hand.outcomes()[-1]
    assert outcome == "refused"
    assert why in text


def test_power_is_given_to_the_filter_at_once() -> None:
    hand = Hand(core()).up().order("power", "3")
    assert [e.event for e in hand.said if isinstance(e, fx.Tell)][-1] == ev.FarmPower(3)
    hand.give(picture(node("n1", powers=(0,), buckets=(0,)), node("n2")))
    assert hand.state()["reason"] == "no client is answered here: its power is 0"


def test_a_drained_node_stays_up_until_it_is_told_to_take_clients_again() -> None:
    hand = Hand(core()).up().order("drain").give(DRAINING)
    assert hand.words() == "UP Ready"
    assert hand.state()["reason"] == "drains by order: 4 connections live, no new ones"
    hand.order("restart")
    assert "<in>" not in hand.acts()[hand.acts().index("<drain>") :]
    hand.order("resume")
    assert hand.acts()[-1] == "<in>"


def test_the_filters_reason_is_the_nodes_reason() -> None:
    closed = picture(
        node("n1", member=False),
        node("n2", reason="refused: n2 hashes with seed 8, this node with 7"),
        open=False,
        reason="refused: n2 hashes with seed 8, this node with 7",
        would_change="both have the same configuration",
    )
    state = Hand(core()).up().give(closed).state()
    assert state["reason"].startswith("no client is answered here: refused: n2 hashes")
    assert state["would_change"] == "both have the same configuration"
    assert state["farm"]["nodes"][1]["reason"].startswith("refused")


# --- checkers ------------------------------------------------------------------------------


def test_a_resource_that_is_down_restarts_until_there_is_no_use() -> None:
    hand = Hand(core(maxloop=2)).up()
    for _ in range(2):
        hand.give(ev.ResourceChanged("proc.x", "down", "restart", "gone"))
        assert hand.words() == "UP Ready"
    hand.give(ev.ResourceChanged("proc.x", "down", "restart", "gone"))
    assert hand.words() == "STOP NotReady"
    assert any("maxloop" in fact["text"] for fact in hand.state()["facts"])


def test_what_is_broken_is_stopped_without_waiting_for_its_connections() -> None:
    hand = Hand(core()).up().give(ev.ResourceChanged("proc.x", "down", "stop", "gone"))
    assert hand.words() == "STOP NotReady"
    assert "<drain>" not in hand.acts()


def test_a_wait_resource_takes_the_node_down_until_it_is_up_again() -> None:
    hand = Hand(core()).up()
    hand.give(ev.ResourceChanged("intf.10.0.0.0", "down", "wait", "no carrier"))
    assert hand.words() == "WAIT NotReady"
    assert hand.state()["reason"] == "resource intf.10.0.0.0 is down: no carrier"
    assert "<away>" in hand.acts()
    actions = [e.event.action for e in hand.said if _is_run(e)]
    assert actions[-1] == "stopwait"
    hand.give(ev.ResourceChanged("intf.10.0.0.0", "up"))
    assert hand.words() == "UP Ready"


def test_a_start_blocked_by_a_resource_ends_its_command_with_the_reason() -> None:
    hand = Hand(core(), obedient=False).give(ev.Started())
    for _ in range(3):
        hand.go_on()
    hand.order("start")
    hand.give(ev.ResourceChanged("intf.a", "down", "wait"))
    hand.go_on()
    outcome, text = hand.outcomes()[-1]
    assert outcome == "done"
    assert text.startswith("n1 is WAIT NotReady: resource intf.a is down")
    hand.order("stop")
    for _ in range(4):
        hand.go_on()
    assert hand.words() == "STOP NotReady"


def test_a_start_script_that_fails_is_said_with_what_to_do() -> None:
    hand = Hand(core())
    hand.failing = ("start_both",)
    state = hand.up().state()
    assert state["reason"] == "the application may not run: script start_both"
    assert state["command"] == "mirrorfarm -H n1 restart -m web"
    assert "<in>" not in hand.acts(), "the other nodes answer its clients"
    hand.failing = ()
    hand.order("restart")
    assert "<in>" in hand.acts()


# --- light modules, records, answers -------------------------------------------------------


def test_a_light_module_runs_its_scripts_and_touches_no_network() -> None:
    hand = Hand(core(mode="light")).give(ev.Started()).order("start")
    assert hand.words() == "UP Ready"
    hand.order("restart").order("stop")
    assert hand.words() == "STOP NotReady"
    assert not [act for act in hand.acts() if act in {"<in>", "<away>", "<drain>", "<vip up>"}]
    assert hand.state()["farm"] is None
    assert "no other node" in hand.order("drain").outcomes()[-1][1]


def test_what_the_administrator_wanted_is_durable() -> None:
    hand = Hand(core()).up()
    stores = [e.record for e in hand.said if isinstance(e, fx.Store)]
    assert stores[-1].wanted
    hand.order("shutdown", "nodrain")
    assert [e.record for e in hand.said if isinstance(e, fx.Store)] == stores
    hand.order("start").order("stop", "nodrain")
    assert not [e.record for e in hand.said if isinstance(e, fx.Store)][-1].wanted


def test_a_module_that_was_running_starts_again_with_its_process() -> None:
    assert Hand(core(start=True)).give(ev.Started()).words() == "UP Ready"


def test_a_command_that_comes_too_early_is_done_later() -> None:
    hand = Hand(core(), obedient=False).give(ev.Started()).order("start", request="e")
    for _ in range(8):
        hand.go_on()
    assert hand.words() == "UP Ready"
    assert hand.outcomes()[-1][0] == "done"


def test_the_same_request_is_answered_twice_and_done_once() -> None:
    hand = Hand(core()).up().order("restart", request="r")
    count = len(hand.acts())
    hand.order("restart", request="r")
    assert len(hand.acts()) == count
    assert [outcome for outcome, _ in hand.outcomes()][-2:] == ["done", "done"]


def test_a_farm_says_everything_that_a_mirror_says() -> None:
    from tests.actors.module.mirror.building import Hand as MirrorHand  # noqa: PLC0415
    from tests.actors.module.mirror.building import core as mirror  # noqa: PLC0415

    other = MirrorHand(mirror()).lead()
    other.give(ev.Received(ADMIN, msg.StateQuery("q")))
    import msgspec  # noqa: PLC0415

    keys = set(msgspec.json.decode(other.sent(msg.StateAnswer)[-1].json))
    assert set(Hand(core()).up().state()) == keys | {"farm"}


def test_details_name_shares_counts_and_members() -> None:
    state = Hand(core()).up().state()
    assert state["farm"]["members"] == ["n1", "n2"]
    assert state["farm"]["nodes"][0]["buckets"] == {"default": 512}
    assert state["farm"]["nodes"][0]["share_permille"] == {"default": 500}
    assert state["resources"]["lbgroup.default_0"] == "50%"
    assert state["resources"]["farm.n2"] == "up"
    assert state["farm"]["owners"]["default"] == "0" * 512 + "1" * 511 + "-"


def test_a_node_whose_filter_cannot_be_raised_waits_and_tries_again() -> None:
    hand = Hand(core())
    hand.vip_fault = "filter bpf: the kernel refuses"
    hand.up()
    state = hand.state()
    assert (state["state"], state["status"]) == ("WAIT", "NotReady")
    assert "filter bpf: the kernel refuses" in state["reason"]
    assert "<in>" not in hand.acts(), "without a filter every client would be answered"
    hand.vip_fault = ""
    hand.now += 5 * SECOND_NS
    hand.give(FarmTick())
    assert hand.state()["state"] == "UP"


def test_new_connections_are_told_as_a_rate() -> None:
    hand = Hand(core()).up()
    hand.give(ev.FilterCounted((("opened", 100),), 40))
    hand.now += 2 * SECOND_NS
    hand.give(ev.FilterCounted((("opened", 500),)))
    traffic = hand.state()["farm"]["traffic"]
    assert traffic["new_per_s"] == 199  # A millisecond has passed as well.
    assert traffic["connections"] == 40, "not every count lists the connections"


# --- always --------------------------------------------------------------------------------

VERBS = ("start", "stop", "restart", "stopstart", "forcestop", "shutdown", "drain", "resume")
ORDERS = st.sampled_from([(verb, ()) for verb in VERBS] + [("stop", ("nodrain",))])
NEWS = st.sampled_from(
    [DRAINING, DRAINED, picture(node("n1"), node("n2")), picture(node("n1"))]
    + [ev.ResourceChanged("a.b", "down", a, "x") for a in ("wait", "restart", "stop", "stopstart")]
    + [ev.ResourceChanged("a.b", "up")]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(ORDERS, NEWS, st.just("go")), max_size=40))
def test_traffic_is_never_open_while_the_application_is_not(story: list[Any]) -> None:
    hand = Hand(core(maxloop=100), obedient=False).give(ev.Started())
    for item in story:
        if item == "go":
            hand.go_on()
        elif isinstance(item, tuple):
            hand.order(item[0], *item[1])
        else:
            hand.give(item)
    running, open_ = False, False
    for act in hand.acts():
        running = (running or act == "start_both") and act not in {"poststop", "<kill>"}
        open_ = (open_ or act == "<in>") and act not in {"<away>", "<drain>"}
        assert running or not open_
        # `poststop` and `<kill>` end all.
        assert not (open_ and act in {"poststop", "prestart", "<kill>"})
    for _ in range(12):
        hand.go_on()
    assert hand.machine.state.phase in MOVES


def test_every_phase_has_its_moves() -> None:
    assert set(MOVES) == set(Phase)


def test_a_node_whose_cable_is_out_leaves_the_clients_to_the_others_and_returns() -> None:
    hand = Hand(core()).up().forget().give(ev.CablesOut(("eth0",)))
    assert hand.acts() == ["<away>"]
    assert hand.words() == "UP Ready"
    assert hand.state()["reason"] == "no client is answered here: no cable at eth0"
    hand.give(ev.CablesOut(()))
    assert hand.acts() == ["<away>", "<in>"]
    assert hand.state()["reason"] == ""


def test_a_stranger_that_owns_the_address_is_told_and_nothing_else_is_done_about_it() -> None:
    hand = Hand(core()).up().forget()
    hand.give(ev.StrangersSeen(("198.18.0.100=02:00:00:00:00:99",)))
    assert hand.acts() == []
    assert hand.words() == "UP Ready"
    state = hand.state()
    assert "a stranger owns the address 198.18.0.100: 02:00:00:00:00:99" in state["reason"]
    assert state["command"] == "mirrorfarm farm check -m web"
    assert "02:00:00:00:00:99" in state["facts"][-1]["text"]
    hand.give(ev.StrangersSeen(()))
    assert hand.state()["reason"] == ""
    assert "any more" in hand.state()["facts"][-1]["text"]


def test_a_node_without_a_cable_starts_but_takes_no_clients_until_it_is_in() -> None:
    hand = Hand(core()).give(ev.Started(), ev.CablesOut(("eth0",))).forget().order("start")
    assert hand.words() == "UP Ready"
    assert "<in>" not in hand.acts()
    hand.forget().order("drain").give(ev.CablesOut(()))
    assert hand.acts() == ["<drain>"]


def test_a_node_without_a_cable_stops_without_waiting_for_connections() -> None:
    hand = Hand(core()).up().give(ev.CablesOut(("eth0",))).order("stop")
    assert hand.words() == "STOP NotReady"
