"""What an arbiter really gives, in one sentence for administrators."""

_SENTENCES = {
    "ping": (
        "advisory: a ping has no memory and says yes to both. Acknowledged writes can be lost if "
        "the nodes lose each other while both still reach the pinged address"
    ),
    "none": (
        "advisory: nobody decides. Acknowledged writes can be lost whenever the nodes lose each "
        "other, because both go on"
    ),
}


def advisory(kind: str) -> str:
    """Return what can be lost with an arbiter of this kind; "" for a register."""
    return _SENTENCES.get(kind, "")
