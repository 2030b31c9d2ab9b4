"""A replica for the live tests: core and plane, ordered about by wishes on standard input.

Each line in is a wish as JSON fields; each line out is a message that the mirror would get.
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors.events import Received, Started
from mirrorfarm.actors.replicator.core import PlaneEnd, Replicator
from mirrorfarm.actors.replicator.plane import Plane, PlaneSettings
from mirrorfarm.actors.replicator.wire import StreamKeys
from mirrorfarm.actors.shell import Inbox, Shell
from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.modules.settings import Replicated, Replication
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import PlaneWish

MODULE = "ledger"


class Doors:
    """Messages are written to standard output."""

    plane: Plane

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ends = threading.Event()

    def now(self) -> int:
        return boot_clock_ns()

    def perform(self, actor: str, effect: fx.ANY_EFFECT, inbox: Inbox) -> None:
        match effect:
            case fx.Send(_, message, _):
                self.write(type(message).__name__, msgspec.structs.asdict(message))
            case fx.Log(level, text):
                self.write("Log", {"level": level, "text": text})
            case fx.PlaneOrder(verb, arguments):
                self.plane.order(verb, arguments)

    def write(self, kind: str, fields: dict[str, Any]) -> None:
        with self._lock:
            sys.stdout.write(json.dumps({"kind": kind, **fields}, default=str) + "\n")
            sys.stdout.flush()

    def record(self, actor: str, now: int, event: Any, effects: list[fx.ANY_EFFECT]) -> None:
        """Keep no trace."""

    def failed(self, actor: str, error: BaseException) -> None:
        self.write("Broken", {"text": repr(error)})
        self.ends.set()


def main() -> None:
    settings = json.loads(sys.argv[1])
    doors = Doors()
    keys = StreamKeys(*(settings[key].encode() for key in ("public", "secret", "peer_public")))
    plane = Plane(
        PlaneSettings(
            Replication(
                tuple(
                    Replicated(
                        directory,
                        notreplicated=tuple(settings.get("excluded", ())),
                        notreplicated_regexes=tuple(settings.get("excluded_names", ())),
                    )
                    for directory in settings["directories"]
                ),
                ack_mode=settings.get("ack_mode", "durable"),
                mode=settings.get("mode", "commit"),
            ),
            settings["timeout_ns"],
            settings["listen"],
            settings["peer"],
            keys,
            Path(settings["map_file"]),
            Path(settings["map_file"]).with_name("quarantine"),
        ),
        lambda event: shell.tell(event),  # noqa: PLW0108
        lambda text: doors.write("Report", {"text": text}),
        doors.ends.set,
    )
    doors.plane = plane
    node = settings["node"]
    shell = Shell.start("replicator", Replicator(node, MODULE), doors)
    shell.tell(Started())
    mirror = Address(node, MODULE, "module")
    for line in sys.stdin:
        shell.tell(Received(mirror, PlaneWish(**json.loads(line))))
    shell.tell(PlaneEnd())
    doors.ends.wait(50)
    shell.stop()
    plane.close()


if __name__ == "__main__":
    main()
