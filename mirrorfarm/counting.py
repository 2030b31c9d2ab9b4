"""How many of something, in words."""


def counted(count: int, noun: str) -> str:
    """Return `1 seed`, or `5,000 seeds`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def counted_are(count: int, noun: str) -> str:
    """Return `1 seed is`, or `5,000 seeds are`."""
    return f"{counted(count, noun)} {'is' if count == 1 else 'are'}"
