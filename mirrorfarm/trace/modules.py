"""Of which modules traces are, as the states in them say, and which processes have no trace."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from mirrorfarm.actors import snapshot
from mirrorfarm.modules.settings import Module
from mirrorfarm.trace.decoder import Checkpoint
from mirrorfarm.trace.files import Source
from mirrorfarm.trace.registry import CORES
from mirrorfarm.trace.steps import read_items
from mirrorfarm.transport.address import MODULE_ACTOR, WITNESS_PROCESS

# The states with which cores begin are the first that a process records.
ITEMS_LOOKED_AT: Final = 64


def first_states(source: Source) -> list[Checkpoint]:
    """Return the first states that a process recorded."""
    items = islice(read_items(source, lambda _: None), ITEMS_LOOKED_AT)
    return [item for item in items if isinstance(item, Checkpoint)]


def modules_of(found: Iterable[Source]) -> dict[str, Module]:
    """Return the modules, by their names; not those of a build with other states."""
    modules: dict[str, Module] = {}
    for source in found:
        if source.process in modules:
            continue
        for one in first_states(source):
            if one.actor == MODULE_ACTOR and one.kind in CORES:
                try:
                    core = snapshot.restore(CORES[one.kind], one.state)
                    modules[source.process] = core.state.settings.module
                except (ValueError, AttributeError, KeyError):
                    break
    return modules


def processes_of(module: Module) -> list[tuple[str, str]]:
    """Return the processes whose steps decide what a module does: nodes and their names."""
    wanted = [(node, module.name) for node in module.nodes]
    if module.replication.directories:
        wanted += [(node, f"{module.name}.replica") for node in module.nodes]
    return wanted


def missing(found: Iterable[Source]) -> list[str]:
    """Return the processes of the modules that have no trace, as `n2/ledger`."""
    found = list(found)
    have = {(one.node, one.process) for one in found}
    wanted: dict[tuple[str, str], None] = {}
    for module in modules_of(found).values():
        wanted |= dict.fromkeys(processes_of(module))
        if module.arbiter.kind == "witness":
            wanted[module.arbiter.name, WITNESS_PROCESS] = None
    return [f"{node}/{process}" for node, process in wanted if (node, process) not in have]
