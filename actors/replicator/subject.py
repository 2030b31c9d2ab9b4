"""What a stream is of: a module, and its directories in their order. Both ends must mean the same.

A port is that of a module's number, and an operation names a directory by its place: a target that
took the stream of another module, or of directories in another order, would write into wrong ones.
"""

import msgspec

from mirrorfarm.errors import FrameInvalid

Subject = tuple[str, ...]  # The module's name, then the paths of its directories.
_SHOWN_CHARACTERS = 200


def packed(subject: Subject) -> bytes:
    """Bytes of a subject, the payload of a HELLO."""
    return msgspec.json.encode(subject)


def difference(own: Subject, told: bytes) -> str:
    """Why a target of `own` refuses a stream that says it is of `told`; empty: it does not.

    FrameInvalid if `told` cannot be read.
    """
    try:
        other = msgspec.json.decode(told, type=Subject)
    except msgspec.MsgspecError as fault:
        raise FrameInvalid(f"subject of a stream: {fault}") from fault
    if other == own:
        return ""
    if other[:1] != own[:1]:
        return (
            f"it meets the replica of {_shown(own[:1])}, not that of {_shown(other[:1])}: "
            "a module must have the same id on both nodes"
        )
    return (
        f"it is of {_shown(other[1:])}, the peer's of {_shown(own[1:])}: "
        "what is replicated must be the same on both nodes, in the same order"
    )


def _shown(names: Subject) -> str:
    text = ", ".join(names) or "nothing"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
