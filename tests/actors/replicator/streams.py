"""A stream for tests of what is sent before anybody answers."""


class Stream:
    """Takes frames, until it is given up."""

    full = False

    def __init__(self) -> None:
        self.count = 0
        self.reason = ""

    def send(self, *_: object) -> int:
        self.count += 1
        return 0 if self.reason else self.count

    def wait_room(self, _: int) -> bool:
        return True

    @property
    def last(self) -> int:
        return self.count

    @property
    def acked(self) -> int:
        return self.count

    def is_safe(self, seq: int) -> bool:
        return seq <= self.count

    def give_up(self, reason: str) -> None:
        self.reason = reason
