"""Which filter a node uses, and why."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.netfilter import choice as of_choice
from mirrorfarm.netfilter.bpf import BpfFilter
from mirrorfarm.netfilter.choice import choose, make
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import Choice
from mirrorfarm.netfilter.libnftables import TransactionRefused
from mirrorfarm.netfilter.nfqueue import NfqueueFilter
from mirrorfarm.netfilter.nft import NftFilter


def works() -> None:
    pass


def fails(reason: str) -> Callable[[], None]:
    def probe() -> None:
        raise SystemUnsuitable(reason)

    return probe


ALL = {"bpf": works, "nft": works, "nfqueue": works}
NO_BPF = ALL | {"bpf": fails("the kernel is locked down")}


def test_the_fastest_is_taken_where_it_works() -> None:
    assert choose("auto", Delivery.INVISIBLE, ALL) == Choice(
        "bpf", "the fastest, and it works here"
    )


def test_the_next_is_taken_with_the_reason_why_not_the_first() -> None:
    assert choose("auto", Delivery.INVISIBLE, NO_BPF) == Choice(
        "nft", "the first that works here; bpf: the kernel is locked down"
    )


def test_python_is_the_last() -> None:
    probes = NO_BPF | {"nft": fails("no jhash")}
    choice = choose("auto", Delivery.MULTICAST, probes)
    assert choice.kind == "nfqueue"
    assert choice.reason.endswith("bpf: the kernel is locked down; nft: no jhash")


def test_a_kernel_without_jhash_has_nfqueue_still(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutHash:
        def run(self, commands: str) -> None:
            if "jhash" in commands:
                raise TransactionRefused("Could not process rule: No such file or directory")

        def close(self) -> None:
            pass

    monkeypatch.setattr(of_choice, "Nftables", WithoutHash)
    monkeypatch.setattr(of_choice, "check_queue", works)
    with pytest.raises(SystemUnsuitable, match="refuses the rules"):
        of_choice.probe_nft()
    of_choice.probe_nfqueue()


def test_where_nothing_works_every_reason_is_told() -> None:
    probes = {kind: fails(f"no {kind} here") for kind in ALL}
    with pytest.raises(SystemUnsuitable, match="no bpf here; nft: no nft here; nfqueue: no nfq"):
        choose("auto", Delivery.INVISIBLE, probes)


def test_what_is_configured_is_not_replaced_by_another() -> None:
    assert choose("nft", Delivery.INVISIBLE, ALL) == Choice("nft", "as configured")
    with pytest.raises(SystemUnsuitable, match="is configured, but bpf: the kernel is locked"):
        choose("bpf", Delivery.INVISIBLE, NO_BPF)


def test_only_bpf_relays() -> None:
    assert choose("auto", Delivery.DIRECTED, ALL).kind == "bpf"
    for wanted in ("auto", "nft"):
        with pytest.raises(SystemUnsuitable, match="cannot relay to the owner"):
            choose(wanted, Delivery.DIRECTED, NO_BPF)


def test_without_an_address_nodes_of_every_system_go_together() -> None:
    nothing = {kind: fails(f"no {kind} here") for kind in ALL}
    chosen = {choose("auto", Delivery.NONE, probes) for probes in (ALL, NO_BPF, nothing)}
    assert len(chosen) == 1
    assert "nothing is filtered" in chosen.pop().reason
    assert choose("nft", Delivery.NONE, nothing).kind == "nft"
    with pytest.raises(SystemUnsuitable, match="auto, bpf, nft, nfqueue"):
        choose("ebtables", Delivery.NONE, ALL)


@pytest.mark.parametrize(
    ("kind", "made"), [("bpf", BpfFilter), ("nft", NftFilter), ("nfqueue", NfqueueFilter)]
)
def test_a_filter_is_made_by_its_name(kind: str, made: type, tmp_path: Path) -> None:
    assert isinstance(make(kind, tmp_path / "ledger"), made)


def test_an_unknown_filter_is_refused_with_the_names_of_the_known(tmp_path: Path) -> None:
    with pytest.raises(SystemUnsuitable, match="auto, bpf, nft, nfqueue"):
        choose("ebtables", Delivery.INVISIBLE, ALL)
    with pytest.raises(SystemUnsuitable, match="auto, bpf, nft, nfqueue"):
        make("auto", tmp_path / "ledger")
