"""The base of all acts, and how their arguments are declared: once, for files and for documents.

`MIRROR` and `FARM` are the acts that a simulated mirror and a simulated farm know; the files
beside this one define them.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar

from mirrorfarm.sim.acts.kinds import LENGTH, MODULE, NODE, Kind
from mirrorfarm.sim.budget import excuse
from mirrorfarm.sim.monitors.seen import Fault


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an act: its key in a file, what it accepts, and what it means."""

    key: str  # "": the act's own name is the key.
    kind: Kind
    what: str = ""


def argument(
    kind: Kind, what: str = "", *, key: str = "", default: Any = dataclasses.MISSING
) -> Any:
    """Declare an argument; without `key` it is the act's own."""
    return field(default=default, metadata={"argument": Argument(key, kind, what)})


def length(what: str = "left out: it does not end by itself") -> Any:
    """Declare for how long, in nanoseconds; 0: it does not end by itself. No file says 0."""
    return argument(LENGTH, what, key="for", default=0)


@dataclass(frozen=True)
class Act:
    """One thing that is done to a cluster."""

    name: ClassVar[str] = ""

    def do(self, world: Any) -> None:
        """Do it now, and put its end on the agenda."""
        raise NotImplementedError

    def ends(self, world: Any, for_ns: int, undo: Callable[..., object], *arguments: Any) -> None:
        """Have it undone after a while; 0: it does not end by itself."""
        if for_ns:
            world.after(for_ns, undo, *arguments)

    def comes_back(self, world: Any, for_ns: int, node: str) -> None:
        """Have a node start after a while, unless everything was mended before.

        Whoever mends starts what is to run then; the rest is kept away on purpose.
        """
        self.ends(world, for_ns, lambda: None if world.healed else world.begin(node))

    @property
    def about(self) -> str:
        """The machine that it is done to; "" if it is none."""
        return str(getattr(self, "node", ""))


@dataclass(frozen=True)
class OnNode(Act):
    """An act on one node."""

    node: str = argument(NODE)


@dataclass(frozen=True)
class OfModule(Act):
    """An act on one module of a mirror's nodes; a farm has only one."""

    _: dataclasses.KW_ONLY
    module: str = argument(MODULE, "left out: the first one", key="module", default="")

    def here(self, world: Any) -> Any:
        """Return what the module has on the node."""
        return world.placed(self.about, self.module)

    def whole(self, world: Any) -> Any:
        """Return the module, of a mirror."""
        return world.modules[self.module_name(world)]

    def module_name(self, world: Any) -> str:
        """Return the name of the module."""
        return self.module or str(world.module_name)


@dataclass(frozen=True)
class OnModule(OfModule, OnNode):
    """An act on one module of one node."""


def meant(act: "A", module: str) -> "A":
    """Return an act as one on a module, if it is one on any."""
    return dataclasses.replace(act, module=module) if module and isinstance(act, OfModule) else act


def perform(world: Any, act: Act) -> None:
    """Do an act; monitors hear of it, and so does the tape if there is one."""
    if world.tape is not None:
        world.tape.append((world.now, act))
    carry_out(world, act)


def carry_out(world: Any, act: Act) -> None:
    """Do an act that follows from one on the tape; monitors hear of it."""
    tell(world, act)
    act.do(world)


def tell(world: Any, act: Act) -> None:
    """Have monitors hear of an act, and of what it may break."""
    module = getattr(act, "module", "") or world.module_name
    world.seen(act.about, Fault(act.name, words(act)), module)
    excuse(world, act)


A = TypeVar("A", bound=Act)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The acts of one kind of cluster, by their names."""

    acts: dict[str, type[Act]] = field(default_factory=dict)


MIRROR: Final = Vocabulary()
FARM: Final = Vocabulary()


def named(name: str, *vocabularies: Vocabulary) -> Callable[[type[A]], type[A]]:
    """Make a class an act that is called so in these kinds of clusters."""

    def register(made: type[A]) -> type[A]:
        made.name = name
        for vocabulary in vocabularies:
            vocabulary.acts[name] = made
        return made

    return register


def arguments(record: Any) -> dict[str, Argument]:
    """Return the arguments that an act, or another record, declares, by the names of its fields."""
    fields = dataclasses.fields(record)
    return {one.name: one.metadata["argument"] for one in fields if one.metadata}


def words(act: Act) -> str:
    """Return an act as a file says it: `cut: n1 w1, for: 300 ms`."""
    return ", ".join(f"{key}: {text}" for key, text in written(act))


def written(record: Any) -> list[tuple[str, str]]:
    """Return keys and texts of an act or record, without those that have their default."""
    found = []
    for one in sorted(dataclasses.fields(record), key=lambda field: bool(field.kw_only)):
        if one.metadata:
            about: Argument = one.metadata["argument"]
            value = getattr(record, one.name)
            if value != one.default or not about.key:
                found.append((about.key or record.name, about.kind.write(value)))
    return found
