"""Which filter a node uses."""

from pathlib import Path

import pytest

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.netfilter.choice import make
from mirrorfarm.netfilter.nft import NftFilter


def test_a_filter_is_made_by_its_name(tmp_path: Path) -> None:
    assert isinstance(make("nft", tmp_path / "ledger"), NftFilter)


def test_an_unknown_filter_is_refused_with_the_names_of_the_known(tmp_path: Path) -> None:
    with pytest.raises(SystemUnsuitable, match="bpf, nft, nfqueue"):
        make("ebtables", tmp_path / "ledger")
