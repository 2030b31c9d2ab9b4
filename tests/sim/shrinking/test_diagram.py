"""A diagram is Mermaid that no text can break."""

from mirrorfarm.actors.effects import Log, Send
from mirrorfarm.actors.events import Received, Started
from mirrorfarm.sim.acts.processes import Power
from mirrorfarm.sim.monitors.seen import Died, Fault
from mirrorfarm.sim.scenario.outcome import Outcome
from mirrorfarm.sim.scenario.record import Event, Scenario
from mirrorfarm.sim.shrinking.diagram import ARROWS_MAX, diagram
from mirrorfarm.sim.steps import Step
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import RegisterRead

HERE = Address("n1", "app", "arbiter")
CHAIN = (
    Step("n1", "app", "world", 1, Fault("power", "x"), []),
    Step("n1", "app", "arbiter", 1, Started(), [Log("E", "x"), Send(HERE, RegisterRead(1))]),
    Step("w1", "witness", "register", 2, Received(HERE, RegisterRead(1)), []),
    Step("n2", "app", "world", 3, Died("app"), []),
)


def test_messages_are_arrows_and_what_was_seen_is_a_note() -> None:
    scenario = Scenario(events=(Event(1_000_000_000, Power("n2")),))
    text = diagram(Outcome(scenario, "S3: it; is\n<b>", chain=CHAIN))
    assert text == (
        "sequenceDiagram\n"
        "    participant n1\n"
        "    participant n2\n"
        "    participant w1\n"
        "    Note over n2: 1 s power: n2\n"
        "    n1->>n1: arbiter: Started → Log\n"
        "    n1->>w1: RegisterRead\n"
        "    Note over n2: Died app\n"
        "    Note over n1,w1: S3: it is b\n"
    )


def test_a_diagram_has_an_end() -> None:
    chain = CHAIN[2:3] * 500
    assert diagram(Outcome(Scenario(), "S3", chain=chain)).count("->>") == ARROWS_MAX
