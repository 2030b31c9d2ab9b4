"""A client that writes numbered records, and scripts that note when they ran: for benchmarks."""

import contextlib
import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise

from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.lab.cluster import OneMachine

PORT = 8080
CONNECT_SECONDS = 0.02  # A machine without the address answers nothing: try again soon.
ANSWER_SECONDS = 0.25
PAUSE_SECONDS = 0.005
TIMED = ("start_prim", "stop_prim")
NOTES = "script-times"
TIMED_SCRIPT = """\
#!/bin/bash
begin=$EPOCHREALTIME
"${0%/*}/real/${0##*/}" "$@"
code=$?
[[ ${1:-} == force ]] && how=-force
echo "${0##*/}${how:-} $begin $EPOCHREALTIME" >>"$SAFEUSERVAR/script-times"
exit $code
"""


@dataclass
class Writer:
    """Posts numbered records through the virtual address; repeats each until acknowledged."""

    lab: OneMachine
    acknowledged: list[tuple[float, int]] = field(default_factory=list)  # Monotonic time, number.
    failure: str = ""
    ending: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.run, name="writer", daemon=True)

    def begin(self) -> None:
        """Begin to write; harmless when begun."""
        if not self.thread.ident:
            self.thread.start()

    def end(self) -> None:
        """End; what was under way may be acknowledged or not."""
        self.ending.set()
        if self.thread.ident:
            self.thread.join(timeout=10)

    def run(self) -> None:
        """Write until told to end."""
        number = 0
        try:
            with self.lab.as_client():
                while not self.ending.is_set():
                    number += 1
                    self.write(number)
                    time.sleep(PAUSE_SECONDS)
        except Exception as error:  # Shown by `check`; it must not end silently.
            self.failure = repr(error)

    def write(self, number: int) -> None:
        """Post one record until it is acknowledged, or until told to end."""
        while not self.ending.is_set():
            status = self.post(number)
            if status in {200, 201}:
                self.acknowledged.append((time.monotonic(), number))
                return
            if status == http.client.CONFLICT:
                raise MirrorfarmError(f"record {number} exists with another text")
            time.sleep(PAUSE_SECONDS)

    def post(self, number: int) -> int:
        """Post a record; return the status of the answer, 0 for none."""
        link = http.client.HTTPConnection(self.lab.vip, PORT, timeout=CONNECT_SECONDS)
        try:
            link.connect()
            link.sock.settimeout(ANSWER_SECONDS)
            link.request("POST", "/records", json.dumps({"id": number, "text": text_of(number)}))
            answer = link.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            link.close()
        return answer.status

    def gap_after(self, start: float) -> float:
        """Return the longest time between two acknowledgements that ended after `start`."""
        times = [at for at, _ in self.acknowledged[-5_000:]]
        gaps = (late - early for early, late in pairwise(times) if late >= start)
        return max(gaps, default=0.0)

    def lost(self) -> list[int]:
        """Read everything back; return the records that were acknowledged and are not there."""
        if self.failure:
            raise MirrorfarmError(f"the client failed: {self.failure}")
        wanted = {(number, text_of(number)) for _, number in list(self.acknowledged)}
        with self.lab.as_client():
            kept = read_back(self.lab.vip)
        return sorted(number for number, _ in wanted - set(kept))


def text_of(number: int) -> str:
    """Return the text of a record: it can be checked later."""
    return f"record {number}"


def read_back(address: str) -> list[tuple[int, str]]:
    """Return every record that the ledger has."""
    found: list[tuple[int, str]] = []
    while True:
        after = found[-1][0] if found else 0
        with contextlib.closing(http.client.HTTPConnection(address, PORT, timeout=60)) as link:
            link.request("GET", f"/records?after={after}&limit=1000")
            records = json.loads(link.getresponse().read())["records"]
        if not records:
            return found
        found += [(record["id"], record["text"]) for record in records]


def time_scripts(lab: OneMachine) -> None:
    """Have the scripts of the lab's module note when they began and ended."""
    for node in lab.nodes:
        folder = lab.paths(node).module_etc(lab.module) / "bin"
        (folder / "real").mkdir()
        for path in [path for path in folder.iterdir() if path.is_file()]:
            copy = folder / "real" / path.name
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o755)
        for name in TIMED:
            (folder / name).write_text(TIMED_SCRIPT, encoding="ascii")


def script_times(lab: OneMachine, node: str, name: str) -> list[tuple[float, float]]:
    """Return begin and end, in seconds of the real-time clock, of every run of a script."""
    file = lab.paths(node).module_lib(lab.module) / NOTES
    lines = file.read_text(encoding="ascii").splitlines() if file.exists() else []
    words = [line.split() for line in lines]
    return [(float(begin), float(end)) for what, begin, end in words if what == name]
