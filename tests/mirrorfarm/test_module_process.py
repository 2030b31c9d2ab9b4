"""How long the process of a module waits for the module's end when the machine goes down."""

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mirrorfarm import module_process
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.module_process import SHUTDOWN_SECONDS, ModuleProcess, shutdown_limits
from mirrorfarm.modules.settings import Farm, Module
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import CommandResult


def module(mode: str, drain_s: int, nice_s: int, force_s: int) -> Module:
    """Return a module with these limits, in seconds."""
    return Module(
        *("web", 1, ("n1", "n2"), mode),
        farm=Farm(drain_ns=drain_s * SECOND_NS),
        nice_stop_ns=nice_s * SECOND_NS,
        force_stop_ns=force_s * SECOND_NS,
    )


@pytest.mark.parametrize(
    ("mode", "drain_s", "nice_s", "force_s", "limits"),
    [
        ("farm", 60, 10, 10, (60, 20)),
        ("farm", 60, 300, 300, (40, 40)),  # As it is if nothing is configured.
        ("farm", 60, 20, 10, (50, 30)),
        ("farm", 5, 300, 300, (5, 75)),
        ("farm", 0, 300, 300, (0, 80)),
        ("farm", 0, 5, 5, (0, 80)),  # `stop_sec`, `stop_prim` and `stop_both` have 5 s each.
        ("mirror", 60, 10, 10, (0, 80)),
        ("light", 60, 300, 300, (0, 80)),
    ],
)
def test_the_drain_leaves_the_stop_scripts_their_time(
    mode: str, drain_s: int, nice_s: int, force_s: int, limits: tuple[float, float]
) -> None:
    found = shutdown_limits(module(mode, drain_s, nice_s, force_s))
    assert found == limits
    assert sum(found) <= SHUTDOWN_SECONDS


def test_a_shutdown_ends_a_drain_that_takes_too_long_and_waits_for_the_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module_process, "SHUTDOWN_SECONDS", 20.0)
    stopped, orders = threading.Event(), []

    def tell(_: str, event: Any) -> None:
        orders.append((event.message.verb, event.message.arguments))
        if event.message.arguments:
            stopped.set()

    process = SimpleNamespace(
        module=Module("web", 1, ("n1", "n2"), "farm", farm=Farm(drain_ns=20 * MILLISECOND_NS)),
        keys=SimpleNamespace(name="n1"),
        supervisor=SimpleNamespace(tell=tell),
        _stopped=stopped,
        _orders=set(),
    )
    process._order = lambda *words: ModuleProcess._order(cast("Any", process), *words)
    assert ModuleProcess.shut_down(cast("Any", process))
    assert orders == [("shutdown", ()), ("shutdown", ("nodrain",))]


@pytest.mark.parametrize(
    ("node", "order", "outcome", "ends"),
    [
        ("n1", "ours", "done", True),
        ("n1", "ours", "refused", True),
        ("n1", "ours", "accepted", False),
        ("n2", "ours", "done", False),
        ("n1", "another", "done", False),
    ],
)
def test_only_the_answer_to_its_own_order_ends_the_wait_for_the_stop(
    node: str, order: str, outcome: str, ends: bool
) -> None:
    """Any peer can send an answer that nobody asked for, long before a machine goes down."""
    process = SimpleNamespace(
        keys=SimpleNamespace(name="n1"), _stopped=threading.Event(), _orders={"ours"}
    )
    frame = SimpleNamespace(
        to=Address("n1", "web", "process"),
        source=Address(node, "web", "module"),
        message=CommandResult(order, outcome, ""),
    )
    ModuleProcess._on_receive(cast("Any", process), cast("Any", frame), "red")
    assert process._stopped.is_set() == ends
