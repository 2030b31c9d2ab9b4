"""pcapng is read back by scapy, and its packets by the project's own codec."""

from pathlib import Path

import pytest

from mirrorfarm.actors.events import Received
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.trace.export import Options, export
from mirrorfarm.trace.merge import Merge
from mirrorfarm.transport import trace_ring
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.codec import decode
from mirrorfarm.transport.messages import Leave

RawPcapNgReader = pytest.importorskip("scapy.utils").RawPcapNgReader
USER0 = 147
OPTION_BYTES_MAX = 65_535  # Its length has 16 bits.


def received(folder: Path, *events: Received, **header: object) -> Path:
    """Record what came, one message each second, and what the header says."""
    origin = trace_ring.Origin("1", "c" * 16, "n1", "web", 1, "boot")
    with pytest.MonkeyPatch.context() as patch:
        told = {**trace_ring.header_of(origin), **header}
        patch.setattr(trace_ring, "header_of", lambda _: told)
        ring = trace_ring.Ring(folder / "traces", origin, 1 << 30, 8)
        for number, event in enumerate(events, 1):
            ring.ready(number * SECOND_NS, number)
            ring.encoder.step("module", number * SECOND_NS, event, [], [])
        ring.flush(ends=True)
    return folder / "traces"


def test_every_message_that_came_is_a_packet(recorded: Path, tmp_path: Path) -> None:
    export([recorded], Options("pcapng", tmp_path / "out"))
    expected = [
        placed for placed in Merge([recorded]).steps() if isinstance(placed.step.event, Received)
    ]
    with RawPcapNgReader(str(tmp_path / "out")) as reader:
        packets = list(reader)
    assert len(packets) == len(expected) > 300
    networks = set()
    for (data, metadata), placed in zip(packets, expected, strict=True):
        frame = decode(data)
        event = placed.step.event
        assert frame.message == event.message
        assert frame.source == event.source
        assert (frame.incarnation, frame.sequence) == (event.incarnation, event.sequence)
        assert frame.to.node == placed.step.node
        assert metadata.linktype == USER0
        assert metadata.tsresol == 10**9
        assert metadata.tshigh << 32 | metadata.tslow == placed.at_ns
        assert metadata.wirelen == len(data)
        networks.add(metadata.ifname)
    assert networks == {b"red", b"local"}


def test_a_packets_comment_names_it(recorded: Path, tmp_path: Path) -> None:
    export([recorded], Options("pcapng", tmp_path / "out"))
    with RawPcapNgReader(str(tmp_path / "out")) as reader:
        comments = [metadata.comments[0].decode() for _, metadata in reader]
    assert any(
        one.startswith("RegisterCas n2/ledger/arbiter -> w/ledger/register in ") for one in comments
    )


def test_names_and_comments_are_as_long_as_an_option_can_be(tmp_path: Path) -> None:
    event = Received(Address("n" + "ü" * 35_000, "web", "module"), Leave(1), "r" + "ä" * 35_000)
    export([received(tmp_path, event)], Options("pcapng", tmp_path / "out"))
    with RawPcapNgReader(str(tmp_path / "out")) as reader:
        [(_, metadata)] = reader
    assert metadata.wirelen > 70_000, "the packet is whole"
    for told, begin in ((metadata.ifname, "rää"), (metadata.comments[0], "Leave nüü")):
        assert told.decode().startswith(begin), "no character is cut in two"
        assert OPTION_BYTES_MAX - 1 <= len(told) <= OPTION_BYTES_MAX


def test_times_that_the_format_has_no_room_for_are_left_out(tmp_path: Path) -> None:
    event = Received(Address("n2", "web", "module"), Leave(1), "red")
    room = (1 << 64) - 1 - 3 * SECOND_NS // 2  # For the first step, at 1 s, and not for the next.
    traces = received(tmp_path, event, event, event, epoch_real_ns=room)
    report = export([traces], Options("pcapng", tmp_path / "out"))
    assert report.message == (
        "1 packets of the link type DLT_USER0; 2 came at no time that pcapng can tell"
    )
    with RawPcapNgReader(str(tmp_path / "out")) as reader:
        [(_, metadata)] = reader
    assert metadata.tshigh << 32 | metadata.tslow == room + SECOND_NS


def test_what_no_node_can_have_sent_is_left_out(tmp_path: Path) -> None:
    honest = Received(Address("n2", "web", "module"), Leave(1), "red")
    number = Received(honest.source, Leave(2**64), "red")
    large = Received(Address("n" * 200_000, "web", "module"), Leave(1), "red")
    for events, cluster in (((honest, number), "c" * 16), ((large,), "c" * 900_000)):
        traces = received(tmp_path / cluster[:20], *events, cluster=cluster)
        report = export([traces], Options("pcapng", tmp_path / "out"))
        assert report.message.endswith("; 1 are no messages")
