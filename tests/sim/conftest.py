"""What a simulated cluster carries passes the codec of the real bus, and comes back as it was."""

from typing import Any

import pytest

from mirrorfarm.actors.effects import Send
from mirrorfarm.sim.cluster import CLUSTER, Cluster
from mirrorfarm.sim.host import Actor
from mirrorfarm.sim.witness import Witness
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.codec import decode, encode
from mirrorfarm.transport.messages import Frame


def check_wire(actor: Actor, to: Address, message: Any) -> None:
    """Fail when the bus could not carry a message, or would change it."""
    process = actor.process
    source = Address(process.host.name, actor.address.module, actor.name)
    frame = Frame(CLUSTER, source, process.incarnation, process.sequence, 0, to, message)
    assert decode(encode(frame)) == frame


@pytest.fixture(autouse=True)
def real_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check every message on its way; runs outside of the tests are no slower for it."""
    send, answer = Cluster.send, Witness._send

    def sent(cluster: Cluster, actor: Actor, effect: Send) -> None:
        check_wire(actor, effect.to, effect.message)
        send(cluster, actor, effect)

    def answered(witness: Witness, actor: Actor, effect: Send) -> None:
        check_wire(actor, effect.to, effect.message)
        answer(witness, actor, effect)

    monkeypatch.setattr(Cluster, "send", sent)
    monkeypatch.setattr(Witness, "_send", answered)
