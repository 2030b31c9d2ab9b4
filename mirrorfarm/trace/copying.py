"""Write a trace anew, with other values."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mirrorfarm.trace.files import Source
from mirrorfarm.trace.redact import Redactor
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import Gap, Item
from mirrorfarm.transport.trace_ring import FILE_BYTES, Origin, Ring

REPLICA = ".replica"  # Behind the name of a module: its data plane.
WORLD = "world"  # What only a simulation saw.
FILES = 1 << 30  # No bound: what is copied is bounded.


def _process(name: str, text: Callable[[str], str]) -> str:
    """Return a process's name without the module's; what kind of process it is stays."""
    module, replica = name.removesuffix(REPLICA), name.endswith(REPLICA)
    return text(module) + REPLICA * replica if module != WORLD else name


class Copy:
    """A redacted copy of one process's trace, in `folder`."""

    def __init__(self, source: Source, folder: Path, redactor: Redactor, mode: str) -> None:
        header = source.header
        text = redactor.text
        origin = Origin(
            str(header.get("version", "")),
            text(str(header.get("cluster", ""))),
            text(source.node),
            _process(source.process, text),
            source.incarnation,
            text(str(header.get("os_boot", ""))),
        )
        same = ("build", "cores", "types")
        kept: dict[str, Any] = {name: header[name] for name in same if name in header}
        kept |= {"epoch_real_ns": source.epoch_ns, "redact": mode}
        self._header = kept  # Of the files that are yet to begin.
        self._ring = Ring(folder, origin, FILE_BYTES, FILES, header=kept)
        self._redactor = redactor

    def write(self, items: Iterable[Item]) -> int:
        """Copy steps and gaps; states of cores are left out. Return how many steps there were."""
        count, number = 0, 0
        encoder, value = self._ring.encoder, self._redactor.item
        for item in items:
            if isinstance(item, Gap):
                self._ring.ready(item.now_ns, number + 1)
                encoder.note("lost", item.steps)
                number += item.steps
            if not isinstance(item, Step):
                continue
            count += 1
            number = item.number
            if item.epoch_ns != self._header["epoch_real_ns"]:  # A file has one for all its steps.
                self._ring.flush(ends=True)
                self._ring.give_up()
                self._header["epoch_real_ns"] = item.epoch_ns
            self._ring.ready(item.now_ns, item.number)
            effects = [value(effect) for effect in item.effects]
            event = value(item.event)
            encoder.step(self._redactor.text(item.actor), item.now_ns, event, effects, item.sent)
        self._ring.flush(ends=True)
        return count
