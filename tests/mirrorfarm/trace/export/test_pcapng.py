"""pcapng is read back by scapy, and its packets by the project's own codec."""

from pathlib import Path

import pytest

from mirrorfarm.actors.events import Received
from mirrorfarm.trace.export import Options, export
from mirrorfarm.trace.merge import Merge
from mirrorfarm.transport.codec import decode

RawPcapNgReader = pytest.importorskip("scapy.utils").RawPcapNgReader
USER0 = 147


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
