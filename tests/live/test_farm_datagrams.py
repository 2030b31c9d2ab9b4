"""Datagrams from one port that a farm places one by one, by their IP identification."""

import os
import random
import socket
from collections import Counter
from ipaddress import ip_address

import pytest

from mirrorfarm.lab.farm import CONNECT_SECONDS, PORT, VIP4, FarmLab, farm
from mirrorfarm.netfilter.packet import UDP, Kind, Packet
from mirrorfarm.netfilter.rules import Placement, bucket
from tests.netfilter import packets

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

MOVES, DATAGRAMS, FRAGMENTED = 4, 60, 10
_MORE_FRAGMENTS, _FIRST_BYTES = 0x2000, 1_480


def owner(lab: FarmLab, client: str, identification: int, kind: Kind) -> str:
    """Return the name of the node that must answer a datagram."""
    ends = ip_address(client).packed, ip_address(VIP4).packed
    packet = Packet(kind, 4, *ends, UDP, destination_port=PORT, identification=identification)
    found = bucket(packet, lab.settings.rules, lab.settings.seed, lab.placing())
    assert isinstance(found, Placement)
    return lab.nodes[lab.owners[found.bucket]].name


@pytest.mark.parametrize("kind", ["bpf", "nft", "nfqueue"])
def test_each_datagram_from_one_port_is_answered_once_and_by_the_owner_of_its_identification(
    kind: str,
) -> None:
    chance, who = random.Random(9), Counter[str]()
    with farm(kind, "vmac_invisible", rules=[["udp", "on_ipid", str(PORT)]]) as lab:
        client = lab.wiring.address("c", "lan")
        with lab.client():
            heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with heard, sender:
            heard.bind((client, 0))
            port = heard.getsockname()[1]

            def send(identification: int, body: bytes, field: int = 0) -> None:
                packet = packets.ipv4(
                    *(client, VIP4, UDP, body),
                    identification=identification,
                    fragment_field=field,
                )
                sender.sendto(packet, (VIP4, 0))

            def await_answer(identification: int, wanted: Kind) -> None:
                heard.settimeout(CONNECT_SECONDS)
                name = heard.recv(100).decode()
                assert name == owner(lab, client, identification, wanted)
                who[name] += 1

            for _ in range(MOVES):
                for number in chance.sample(range(1, 65_536), DATAGRAMS):
                    send(number, packets.udp(port, PORT, b"?"))
                    await_answer(number, Kind.UDP)
                for number in chance.sample(range(1, 65_536), FRAGMENTED):
                    whole = packets.udp(port, PORT, bytes(2_000))
                    send(number, whole[:_FIRST_BYTES], _MORE_FRAGMENTS)
                    send(number, whole[_FIRST_BYTES:], _FIRST_BYTES // 8)
                    # Joined, they are as any other; in fragments the address alone decides.
                    await_answer(number, Kind.UDP if kind == "nft" else Kind.FRAGMENT)
                heard.settimeout(0.1)
                with pytest.raises(TimeoutError):  # None was answered by two.
                    heard.recv(100)
                lab.move_at_random(chance, all_of_it=False)
    assert min(who[node.name] for node in lab.nodes) > DATAGRAMS * MOVES / 10, who
