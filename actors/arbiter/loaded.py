"""The registers that this machine keeps, each in two slots of one folder."""

from pathlib import Path

from mirrorfarm.actors.arbiter.memory import loaded, record_of
from mirrorfarm.actors.arbiter.witness import RegisterRecord
from mirrorfarm.actors.effects import RegisterStore
from mirrorfarm.actors.events import RegisterLoaded
from mirrorfarm.actors.slots import SlotStore
from mirrorfarm.errors import RecordInvalid
from mirrorfarm.modules.settings import Module

_PREFIX = "register-"


class RegisterSlots:
    """Stores and loads registers. One thread at a time per module."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stores: dict[str, SlotStore[RegisterRecord]] = {}

    def store(self, effect: RegisterStore) -> None:
        """Make a register durable. OSError: nothing is known of it until it is loaded again."""
        self._of(effect.module).write(record_of(effect), effect.counter)

    def load(self, cluster: str, module: Module) -> RegisterLoaded:
        """Return the register of one module; one that is damaged is set aside and is None.

        For an advisory arbiter: the peer has a copy, and the mirror trusts no register that
        began anew. OSError when the disk refuses.
        """
        try:
            return self._load(cluster, module.name)
        except RecordInvalid:
            self._of(module.name).set_aside()
            return loaded(module.name, None, 0)

    def load_all(self, cluster: str) -> list[RegisterLoaded]:
        """Return every register of the folder.

        Raises RecordInvalid, with the cure, if one is damaged or of another cluster; OSError.
        """
        names: dict[str, None] = {}
        for path in sorted(self._folder.glob(f"{_PREFIX}*.[01]")):
            names.setdefault(path.name[len(_PREFIX) : -2])
        found = [self._load(cluster, name) for name in names]
        return [event for event in found if event.register is not None]

    def _load(self, cluster: str, module: str) -> RegisterLoaded:
        store = self._of(module)
        try:
            record = store.read()
        except RecordInvalid as error:
            raise RecordInvalid(f"{error}. {self._cure(module)}") from error
        if record is None:
            return loaded(module, None, 0)
        if (record.cluster, record.module) != (cluster, module):
            raise RecordInvalid(
                f"{self._folder}/{_PREFIX}{module}.*: the register of module {record.module} of "
                f"cluster {record.cluster}, not of ours. {self._cure(module)}"
            )
        # Written again before it is believed: what is read may be in the cache only, left
        # there by a writing that failed.
        store.write(record, store.counter + 1)
        return loaded(module, record, store.counter)

    def _cure(self, module: str) -> str:
        return (
            f"While {module} is stopped on both nodes: move {self._folder}/{_PREFIX}{module}.* "
            f"away, start again, then `mirrorfarm -H NODE primforce -m {module}` on the node "
            "whose data are current"
        )

    def _of(self, module: str) -> SlotStore[RegisterRecord]:
        if module not in self._stores:
            self._stores[module] = SlotStore(self._folder, _PREFIX + module, RegisterRecord)
        return self._stores[module]
