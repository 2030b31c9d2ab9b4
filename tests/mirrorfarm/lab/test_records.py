"""The client of the benchmarks notices what it must notice."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.lab import records
from mirrorfarm.lab.records import Writer, text_of


class Answers(http.server.BaseHTTPRequestHandler):
    """A ledger that keeps what it is told to keep."""

    kept: dict[int, str]

    def do_GET(self) -> None:
        after = int(self.path.partition("after=")[2].partition("&")[0])
        found = [{"id": n, "text": t} for n, t in sorted(self.kept.items()) if n > after]
        body = json.dumps({"records": found[:2]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Stay silent."""


@contextlib.contextmanager
def ledger(kept: dict[int, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    handler = type("Kept", (Answers,), {"kept": kept})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(records, "PORT", server.server_port)
        lab: Any = SimpleNamespace(vip="127.0.0.1", as_client=contextlib.nullcontext)
        try:
            yield Writer(lab)
        finally:
            server.shutdown()
            thread.join()


def test_what_was_acknowledged_and_is_gone_or_altered_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {number: text_of(number) for number in (1, 2, 4, 5, 6)} | {5: "altered"}
    with ledger(kept, monkeypatch) as writer:
        writer.acknowledged = [(float(number), number) for number in (1, 2, 3, 4, 5)]
        assert writer.lost() == [3, 5]


def test_a_client_that_failed_has_no_result() -> None:
    lab: Any = None
    with pytest.raises(MirrorfarmError, match="the client failed"):
        Writer(lab, failure="record 1 exists with another text").lost()


def test_the_gap_is_the_longest_wait_that_ended_after_the_cause() -> None:
    lab: Any = None
    writer = Writer(lab, [(1.0, 1), (5.0, 2), (5.5, 3), (7.5, 4), (7.6, 5)])
    assert writer.gap_after(5.2) == 2.0
    assert writer.gap_after(2.0) == 4.0
    assert writer.gap_after(8.0) == 0.0
