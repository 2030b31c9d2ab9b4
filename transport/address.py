"""Where an actor lives: `node/module/actor`, in whatever process it runs."""

import re
from collections.abc import Iterable

import msgspec

from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import NAME_PATTERN

_NAME = re.compile(NAME_PATTERN)

AGENT = "agent"  # The module name of actors that belong to the node, not to a module.
WITNESS_PROCESS = "witness"  # On a machine of its own, it is whom everybody there means.
MODULE_ACTOR = "module"  # The actor that is a module's state machine, whatever the module's kind.


class Address(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """One actor: the node it runs on, its module (`agent` for the node's own), its name.

    As the destination of a frame `node` may be several names, with a space between: the actors
    of this name on all of them (`to_all`).
    """

    node: str
    module: str
    actor: str

    def __str__(self) -> str:
        return f"{self.node}/{self.module}/{self.actor}"

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of a destination; one, unless it was made by `to_all`."""
        return tuple(self.node.split(" "))

    @property
    def process(self) -> str:
        """Name of the process, on its node, in which the actor runs.

        The replicator has a process of its own, so that it survives its module's; a command
        line is its own module, named `cli-` and what nobody else has.
        """
        return f"{self.module}.replica" if self.actor == "replicator" else self.module


def to_all(nodes: Iterable[str], module: str, actor: str) -> Address:
    """Return the destination of one frame that several nodes get."""
    return Address(" ".join(nodes), module, actor)


def check_name(name: str) -> str:
    """Return `name` if it may name a node, module, network or actor; raise FrameInvalid."""
    if not _NAME.fullmatch(name):
        raise FrameInvalid(f"{name!r} is not a name: {NAME_PATTERN}")
    return name
