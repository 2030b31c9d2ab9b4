"""For the tests of the demonstrations: how one is interrupted, and what it left behind."""

import os
import signal
import subprocess
from pathlib import Path

from mirrorfarm.lab.machine import hierarchies


def leftovers(pid: int) -> list[str]:
    """Return namespaces, folders and control groups of a lab whose process was `pid`."""
    places = [Path("/run/netns"), Path("/tmp"), *hierarchies()]
    return [str(path) for place in places for path in place.glob(f"mf{pid}x*")]


def interrupt(demo: list[str], line: str, number: signal.Signals) -> None:
    """Send `number` to a demonstration that has said `line`; nothing may be left of it."""
    # What a shell starts in the background ignores SIGINT, and so does all that it starts.
    words = ["env", "--default-signal=INT", *demo]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        while line not in (said := process.stdout.readline()):
            assert said, process.stderr.read() if process.stderr else ""
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=120)
    assert process.returncode not in {0, 1}
    assert "Traceback" not in err
    assert not leftovers(process.pid)
