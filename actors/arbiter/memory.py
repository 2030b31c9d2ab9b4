"""An arbiter without a disk, for simulations, tests and programs that embed both nodes."""

from dataclasses import dataclass, field

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.witness import RegisterRecord, WitnessCore
from mirrorfarm.actors.effects import RegisterStore, Send
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import ANY_MESSAGE


@dataclass(slots=True)
class MemoryArbiter:
    """The witness with a dictionary for a disk."""

    cluster: str = ""
    seed: int = 0
    disk: dict[str, tuple[RegisterRecord, int]] = field(default_factory=dict)
    core: WitnessCore = field(init=False)

    def __post_init__(self) -> None:
        self.core = WitnessCore(self.cluster, self.seed)

    def ask(self, source: Address, message: ANY_MESSAGE, now: int) -> list[Send]:
        """Put a request of `source` at `now` (boot clock, ns); return the answers."""
        return self._feed(ev.Received(source, message), now)

    def restart(self, now: int) -> None:
        """Forget all but the disk. Replace `disk` before to simulate an old copy."""
        self.core = WitnessCore(self.cluster, self.seed)
        for module, (record, counter) in self.disk.items():
            self.core.handle(loaded(module, record, counter), now)

    def _feed(self, event: ev.Event, now: int) -> list[Send]:
        sent: list[Send] = []
        for effect in self.core.handle(event, now):
            if isinstance(effect, RegisterStore):
                self.disk[effect.module] = record_of(effect), effect.counter
                sent += self._feed(ev.RegisterStored(effect.counter), now)
            elif isinstance(effect, Send):
                sent.append(effect)
        return sent


def record_of(effect: RegisterStore) -> RegisterRecord:
    """Return the record that `effect` wants on the disk."""
    return RegisterRecord(
        effect.cluster,
        effect.module,
        effect.register,
        effect.lease_ns,
        effect.asker,
        effect.request,
    )


def loaded(module: str, record: RegisterRecord | None, counter: int) -> ev.RegisterLoaded:
    """Return the event that brings a record (None: never written) to a core."""
    if record is None:
        return ev.RegisterLoaded("", module, None)
    return ev.RegisterLoaded(
        record.cluster,
        module,
        record.register,
        counter,
        record.lease_ns,
        record.asker,
        record.request,
    )
