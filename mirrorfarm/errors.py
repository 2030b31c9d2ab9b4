"""Errors that someone can act upon. A broken invariant is an assert, not one of these.

Each text says what happened, why, and what to do next; each class has its own exit code.
"""

from typing import ClassVar


class MirrorfarmError(Exception):
    """Base of the errors below; never raised itself."""

    exit_code: ClassVar[int] = 1


class UsageInvalid(MirrorfarmError):
    """A command was given words that make no sense here."""

    exit_code: ClassVar[int] = 2


class ConfigInvalid(MirrorfarmError):
    """A configuration file breaks rules; carries every fault found, not only the first."""

    exit_code: ClassVar[int] = 3

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(self.faults)


class FrameInvalid(MirrorfarmError):
    """A peer sent bytes that are not a message. Counted and dropped, never propagated."""

    exit_code: ClassVar[int] = 4


class NodeUnreachable(MirrorfarmError):
    """No answer from a node, or from the agent of this one."""

    exit_code: ClassVar[int] = 5


class Refused(MirrorfarmError):
    """A command was understood and refused, with the reason."""

    exit_code: ClassVar[int] = 6


class TimedOut(MirrorfarmError):
    """A command has no final answer within its stated time; its state can be queried."""

    exit_code: ClassVar[int] = 7


class SystemUnsuitable(MirrorfarmError):
    """The machine lacks what is needed: a privilege, a device, a kernel feature, a file."""

    exit_code: ClassVar[int] = 8


class KeyInvalid(MirrorfarmError):
    """A key file is missing, malformed or readable by others."""

    exit_code: ClassVar[int] = 9


class RecordInvalid(MirrorfarmError):
    """A durable record cannot be read back: both of its slots are damaged or foreign."""

    exit_code: ClassVar[int] = 10


class TraceInvalid(MirrorfarmError):
    """A trace cannot be read: there is none, or it is damaged, foreign or of a newer version."""

    exit_code: ClassVar[int] = 11


def error_of(exit_code: int, text: str) -> MirrorfarmError:
    """Return the error with an exit code, as another process told it."""
    if exit_code == ConfigInvalid.exit_code:
        return ConfigInvalid(tuple(text.split("\n")))
    classes = {one.exit_code: one for one in MirrorfarmError.__subclasses__()}
    return classes.get(exit_code, MirrorfarmError)(text)
