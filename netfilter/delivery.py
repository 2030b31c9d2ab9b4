"""How frames for a virtual address reach every node, and which node answers for the address.

`vmac_invisible`  neighbours learn a unicast MAC that nobody ever sends from: switches do not
                  know where it is and flood. `multicast`: a group MAC, which they flood as well.
                  All nodes answer questions, all with the same.
`vmac_directed`   neighbours learn the real MAC of one node. With a rule for ARP the node that
                  owns the asker's bucket answers, else whoever owns anything does.
`none`            a load balancer in front chooses the node; nothing is announced.

The virtual MAC is in the body of the answers alone: their Ethernet source is the real one, or
the switches would learn where the virtual one is, and one node would receive everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mirrorfarm.limits import ASKERS_MAX
from mirrorfarm.netfilter.neighbours import (
    IPAddress,
    Question,
    announcements,
    answer,
    parse_question,
)
from mirrorfarm.netfilter.packet import ARP, Kind, Packet
from mirrorfarm.netfilter.rules import Placement, Rules, State, bucket

_INVISIBLE = bytes.fromhex("5afe")  # Unicast, locally administered; the reference's.
_GROUP = bytes.fromhex("03bf")  # The bit of groups is set.


class Delivery(StrEnum):
    """The words of userconfig.xml."""

    INVISIBLE = "vmac_invisible"
    MULTICAST = "multicast"
    DIRECTED = "vmac_directed"
    NONE = "none"


def virtual_mac(delivery: Delivery, address: IPAddress, configured: bytes = b"") -> bytes:
    """Return the shared MAC of an address; empty where nodes use their own.

    Two bytes that tell the kind, then the address; of IPv6 its last four bytes.
    """
    match delivery:
        case Delivery.INVISIBLE:
            return configured or _INVISIBLE + address.packed[-4:]
        case Delivery.MULTICAST:
            return configured or _GROUP + address.packed[-4:]
        case Delivery.DIRECTED | Delivery.NONE:
            return b""


def parse_virtual_mac(delivery: Delivery, text: str) -> bytes:
    """Read a virtual MAC of the configuration; raise ValueError that tells what is wrong."""
    parts = text.replace("-", ":").split(":")
    if len(parts) != 6 or any(len(part) != 2 for part in parts):
        raise ValueError(f"{text!r} is not a MAC such as 5A:FE:C0:A8:01:64")
    try:
        mac = bytes.fromhex("".join(parts))
    except ValueError:
        raise ValueError(f"{text!r} is not a MAC such as 5A:FE:C0:A8:01:64") from None
    if not any(mac):
        raise ValueError("a MAC of zeros is nobody's")
    group = bool(mac[0] & 1)
    if delivery is Delivery.INVISIBLE and group:
        raise ValueError(f"{text} is a group MAC (first byte odd); vmac_invisible needs another")
    if delivery is Delivery.MULTICAST and not group:
        raise ValueError(f"{text} is no group MAC (first byte even); multicast needs one")
    if delivery not in (Delivery.INVISIBLE, Delivery.MULTICAST):
        raise ValueError(f"{delivery} uses the nodes' own MACs: remove addr")
    return mac


@dataclass(slots=True)
class Answers:
    """What one node says about the virtual addresses on one interface. Frames in, frames out.

    Invariant: no frame has the virtual MAC as its Ethernet source; of all nodes with the same
    rules, `vmac_directed` with a rule for ARP lets at most the owner of the bucket answer.
    """

    delivery: Delivery
    addresses: tuple[IPAddress, ...]
    mac: bytes  # The interface's own; may change.
    rules: Rules = ()
    seed: int = 0
    configured: bytes = b""
    _groups: tuple[bytes, ...] = field(default=(), init=False)
    # Who asked for what lately, oldest first: questions are broadcast, so every node knows.
    _askers: dict[tuple[IPAddress, IPAddress], bytes] = field(default_factory=dict, init=False)

    def answer(self, frame: bytes) -> list[bytes]:
        """Return the frames that a received frame calls for; any bytes may be given."""
        question = parse_question(frame)
        if question is None or question.address not in self.addresses:
            return []
        if self._is_directed:
            self._remember(question)
        return [self._answer(question)] if self._answers(question) else []

    def announcements(self) -> list[bytes]:
        """Return the frames by which all neighbours learn of the addresses, told now and then."""
        if self.delivery is Delivery.NONE or (self._is_directed and not self._owns_first()):
            return []  # One node, or neighbours would be drawn from one to the other.
        return [
            frame
            for address in self.addresses
            if not self._has_arp_rule(address)
            for frame in announcements(address, self._mac_of(address), self.mac)
        ]

    def rename(self, mac: bytes) -> list[bytes]:
        """Take another MAC of the interface; return what tells it to those who know the old one.

        Where nodes use their own MACs nobody knows who these are, and they would reach nobody:
        all neighbours are told this node, as when another one went. It relays what is another's.
        """
        if mac == self.mac:
            return []
        self.mac = mac
        if not self._is_directed or not any(any(group) for group in self._groups):
            return []
        return [frame for one in self.addresses for frame in announcements(one, mac, mac)]

    def _everywhere(self) -> list[bytes]:
        return [
            frame
            for address in self.addresses
            if self._has_arp_rule(address)
            for frame in announcements(address, self._mac_of(address), self.mac)
        ]

    def _gained(self, before: tuple[bytes, ...]) -> bool:
        """Tell whether this node was in service and has buckets now that were another's."""
        return any(any(group) for group in before) and any(
            new != State.FOREIGN and old == State.FOREIGN
            for was, now in zip(before, self._groups, strict=False)
            for old, new in zip(was, now, strict=True)
        )

    def adopt(self, groups: Sequence[bytes]) -> list[bytes]:
        """Obey a new table of buckets, per group; return what is to be told because of it.

        Where the buckets decide who answers, those who asked are told their new node, each alone;
        but not every node heard them all. So when a node went, all neighbours are told one that
        is left: it relays what is another's.
        """
        before, self._groups = self._groups, tuple(groups)
        if not self._is_directed:
            return self.announcements()
        frames = self._everywhere() if self._gained(before) and self._owns_first() else []
        for (address, asker), mac in self._askers.items():
            question = Question(address, asker, mac)
            if self._has_arp_rule(address) and self._answers(question):
                if not self._owned(question, before):
                    frames.append(self._answer(question))
        return frames + self.announcements()

    @property
    def _is_directed(self) -> bool:
        return self.delivery is Delivery.DIRECTED

    def _answers(self, question: Question) -> bool:
        if self.delivery is Delivery.NONE:
            return False
        return not self._is_directed or self._owned(question, self._groups)

    def _owned(self, question: Question, groups: tuple[bytes, ...]) -> bool:
        """Tell whether, by these tables, this node is the one that answers."""
        place = self._place(question)
        if place is None:
            return any(any(group) for group in groups)
        if place.group >= len(groups):
            return False
        return groups[place.group][place.bucket] != State.FOREIGN

    def _place(self, question: Question) -> Placement | None:
        """Return the bucket of who asks; None without a rule for ARP."""
        asker = question.asker
        source = asker.packed if asker else bytes(len(question.address.packed))
        asks = Packet(Kind.ARP, question.address.version, source, question.address.packed, ARP)
        place = bucket(asks, self.rules, self.seed)
        return place if isinstance(place, Placement) else None

    def _has_arp_rule(self, address: IPAddress) -> bool:
        return self._is_directed and self._place(Question(address, None, b"")) is not None

    def _owns_first(self) -> bool:
        return bool(self._groups) and self._groups[0][0] != State.FOREIGN

    def _answer(self, question: Question) -> bytes:
        return answer(question, self._mac_of(question.address), self.mac)

    def _mac_of(self, address: IPAddress) -> bytes:
        return virtual_mac(self.delivery, address, self.configured) or self.mac

    def _remember(self, question: Question) -> None:
        if question.asker is None:
            return
        key = (question.address, question.asker)
        self._askers.pop(key, None)
        self._askers[key] = question.mac
        if len(self._askers) > ASKERS_MAX:
            del self._askers[next(iter(self._askers))]
