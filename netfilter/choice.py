"""Which of the three filters a node uses, with the reason in words for `state -v`."""

from pathlib import Path

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.netfilter.bpf import BpfFilter
from mirrorfarm.netfilter.filter import PacketFilter
from mirrorfarm.netfilter.nfqueue import NfqueueFilter
from mirrorfarm.netfilter.nft import NftFilter

KINDS = ("bpf", "nft", "nfqueue")


def make(kind: str, ledger: Path) -> PacketFilter:
    """Return a filter that is not open yet; `ledger`: the node's file of kernel parameters."""
    match kind:
        case "bpf":
            return BpfFilter()
        case "nft":
            return NftFilter(ledger)
        case "nfqueue":
            return NfqueueFilter(ledger)
        case _:
            raise SystemUnsuitable(f"there is no filter {kind!r}: use one of {', '.join(KINDS)}")
