"""Keys are made once, joined with a bundle, guarded by modes; incarnations only grow."""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zmq

from mirrorfarm.errors import KeyInvalid, RecordInvalid, SystemUnsuitable
from mirrorfarm.limits import SECOND_NS, WISHES_MAX
from mirrorfarm.oserrors import told
from mirrorfarm.paths import Paths
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.codec import decode, encode
from mirrorfarm.transport.keys import (
    Keys,
    create_cluster,
    join_cluster,
    load_keys,
    next_incarnation,
)
from mirrorfarm.transport.messages import Frame, PlaneWish

XML = "<cluster/>\n"
MANUAL_SECRET = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"  # Of zmq_curve(7).


def create(tmp_path: Path) -> Keys:
    return create_cluster(
        XML, ["n1", "n2"], ["w1"], "n1", Paths(tmp_path / "n1"), tmp_path / "bundles"
    )


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def refused(action: Any, *arguments: Any) -> str:
    with pytest.raises(KeyInvalid) as caught:
        action(*arguments)
    return str(caught.value)


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_every_name_gets_a_key_and_all_know_the_public_ones(tmp_path: Path) -> None:
    create(tmp_path)
    for name in ("n2", "w1"):
        join_cluster(tmp_path / f"bundles/{name}.join", Paths(tmp_path / name))
    keys = {name: load_keys(Paths(tmp_path / name)) for name in ("n1", "n2", "w1")}
    public = {name: one.public for name, one in keys.items()}
    assert len(set(public.values())) == 3
    for name, one in keys.items():
        assert one.name == name
        assert one.cluster == keys["n1"].cluster
        assert one.peers == {other: key for other, key in public.items() if other != name}
        assert zmq.curve_public(one.secret.encode()).decode() == one.public
        assert Paths(tmp_path / name).cluster_xml.read_text() == XML
    assert len(keys["n1"].cluster) == 16
    assert not (tmp_path / "bundles/n1.join").exists()


def test_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    create(tmp_path)
    keys = Paths(tmp_path / "n1").keys
    assert mode(keys) == 0o700
    assert [mode(path) for path in keys.iterdir()] == [0o600]
    assert mode(tmp_path / "bundles") == 0o700
    assert [mode(path) for path in (tmp_path / "bundles").iterdir()] == [0o600, 0o600]


@pytest.mark.parametrize(("bits", "refused"), [(0o755, False), (0o1777, True), (0o775, True)])
def test_a_folder_for_bundles_that_is_there_stays_as_it_is(
    tmp_path: Path, bits: int, refused: bool
) -> None:
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    bundles.chmod(bits)
    if refused:
        with pytest.raises(KeyInvalid, match="name a folder that does not exist yet"):
            create(tmp_path)
        assert list(bundles.iterdir()) == []
    else:
        create(tmp_path)
        assert [mode(path) for path in bundles.iterdir()] == [0o600, 0o600]
    assert stat.S_IMODE(bundles.stat().st_mode) == bits


def test_a_printed_identity_does_not_show_its_secret(tmp_path: Path) -> None:
    keys = create(tmp_path)
    assert keys.secret not in f"{keys} {keys!r}"


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620])
def test_secrets_open_to_others_are_refused(tmp_path: Path, bits: int) -> None:
    create(tmp_path)
    path = Paths(tmp_path / "n1").keys / "keys.json"
    path.chmod(bits)
    text = refused(load_keys, Paths(tmp_path / "n1"))
    assert str(path) in text
    assert "chmod 600" in text
    bundle = tmp_path / "bundles/n2.join"
    bundle.chmod(bits)
    refused(join_cluster, bundle, Paths(tmp_path / "n2"))


def test_a_node_without_keys_is_told_what_to_do(tmp_path: Path) -> None:
    assert "mirrorfarm cluster" in refused(load_keys, Paths(tmp_path))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_keys_that_cannot_be_read_are_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(path: Path, *_: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", fail)
    text = refused(load_keys, Paths(tmp_path))
    assert os.strerror(number) in text
    assert str(tmp_path) in text
    assert "mirrorfarm cluster" not in text


@pytest.mark.parametrize(
    "fields",
    [
        {"secret": "short"},
        {"secret": "~" * 40},
        {"secret": "#" * 40},
        {"secret": zmq.curve_keypair()[1].decode()},
        {"cluster": "xyz"},
        {"name": "n9"},
        {"name": "../n1"},
        {"public": {}},
        {"more": 1},
        {"secret": None},
    ],
)
def test_malformed_bundles_and_key_files_are_refused(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    create(tmp_path)
    bundle = tmp_path / "bundles/n2.join"
    change(bundle, **fields)
    refused(join_cluster, bundle, Paths(tmp_path / "n2"))
    assert not (tmp_path / "n2").exists()
    change(Paths(tmp_path / "n1").keys / "keys.json", **fields)
    refused(load_keys, Paths(tmp_path / "n1"))


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b"0" * 2_000_000])
def test_files_that_are_no_bundles_are_refused(tmp_path: Path, data: bytes) -> None:
    bundle = tmp_path / "n2.join"
    bundle.write_bytes(data)
    bundle.chmod(0o600)
    assert str(bundle) in refused(join_cluster, bundle, Paths(tmp_path / "n2"))


def test_the_keys_printed_in_the_manual_are_refused(tmp_path: Path) -> None:
    keys = create(tmp_path)
    public = zmq.curve_public(MANUAL_SECRET.encode()).decode()
    bundle = tmp_path / "bundles/n2.join"
    names = {"n1": keys.public, "w1": keys.peers["w1"], "n2": public}
    change(bundle, secret=MANUAL_SECRET, public=names)
    assert "manual" in refused(join_cluster, bundle, Paths(tmp_path / "n2"))
    # Not even as somebody else's.
    change(Paths(tmp_path / "n1").keys / "keys.json", public=names)
    assert "manual" in refused(load_keys, Paths(tmp_path / "n1"))


def test_a_machine_belongs_to_one_cluster(tmp_path: Path) -> None:
    create(tmp_path)
    before = load_keys(Paths(tmp_path / "n1"))
    assert "already" in refused(create, tmp_path)
    other = tmp_path / "other"
    create_cluster(XML, ["n1", "n2"], [], "n2", Paths(other), other)
    assert "already" in refused(join_cluster, other / "n1.join", Paths(tmp_path / "n1"))
    assert load_keys(Paths(tmp_path / "n1")) == before


def test_a_machine_does_not_become_another_one_of_its_cluster(tmp_path: Path) -> None:
    """Its own secret is nowhere else: who joins on the wrong machine would lose the cluster."""
    create(tmp_path)
    paths = Paths(tmp_path / "n1")
    before = load_keys(paths)
    text = refused(join_cluster, tmp_path / "bundles/n2.join", paths)
    assert "this machine is n1" in text
    assert "n2" in text
    assert load_keys(paths) == before


def test_joining_again_with_the_same_bundle_changes_nothing(tmp_path: Path) -> None:
    create(tmp_path)
    paths = Paths(tmp_path / "n2")
    first = join_cluster(tmp_path / "bundles/n2.join", paths)
    edited = f"{XML}<!-- edited since -->\n"
    paths.cluster_xml.write_text(edited)
    assert join_cluster(tmp_path / "bundles/n2.join", paths) == first == load_keys(paths)
    assert paths.cluster_xml.read_text() == edited


@pytest.mark.parametrize("names", [["n1", "n1"], ["n1", "N2"], ["n1", ".."], ["n2"]])
def test_clusters_with_bad_names_are_not_made(tmp_path: Path, names: list[str]) -> None:
    refused(create_cluster, XML, names, [], "n1", Paths(tmp_path / "r"), tmp_path / "b")
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "b").exists()


def test_incarnations_grow_and_continue_above_an_earlier_life(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    first = next_incarnation(paths)
    assert first > 1_600_000_000
    assert [next_incarnation(paths) for _ in range(3)] == [first + 1, first + 2, first + 3]


@pytest.mark.parametrize("year", [1960, 2038, 2099, 2262])
def test_what_a_wrong_clock_begins_with_fits_into_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    """A wish that no process could read would leave a mirror without its directories for ever."""
    seconds = int(datetime(year, 3, 1, tzinfo=UTC).timestamp())
    monkeypatch.setattr(time, "time_ns", lambda: seconds * SECOND_NS)
    paths = Paths(tmp_path)
    incarnation = [next_incarnation(paths) for _ in range(9)][-1]
    assert incarnation > 0
    here, wish = Address("n1", "db", "module"), PlaneWish((incarnation + 1) * WISHES_MAX - 1, "off")
    frame = Frame("c" * 16, here, incarnation, 1, 1, Address("n1", "db", "replicator"), wish)
    assert decode(encode(frame)) == frame


def test_a_damaged_count_is_reported_not_guessed(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    next_incarnation(paths)
    for damage in (b"", b"-1\n", b"12", b"x\n"):
        (paths.lib / "incarnation").write_bytes(damage)
        with pytest.raises(RecordInvalid, match="incarnation"):
            next_incarnation(paths)


def test_a_disk_that_does_not_take_the_incarnation_is_named(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.lib.parent.mkdir(parents=True)
    paths.lib.write_text("not a folder")
    with pytest.raises(SystemUnsuitable, match=r"incarnation: .*free or mend the disk"):
        next_incarnation(paths)


def test_a_disk_that_takes_no_bundle_is_named_and_nothing_is_joined(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large") as full:
            create_cluster(
                "<cluster/>", ("n1", "n2"), (), "n1", Paths(tmp_path / "n1"), tmp_path / "b"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told(full.value).startswith(f"{tmp_path}/b/n2.join: File too large: ")
    assert list((tmp_path / "b").iterdir()) == []
    assert not (tmp_path / "n1").exists()


def test_processes_that_start_together_get_different_incarnations(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mirrorfarm.paths import Paths\n"
        "from mirrorfarm.transport.keys import next_incarnation\n"
        "for _ in range(50): print(next_incarnation(Paths(Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    numbers = [int(n) for one in processes for n in one.communicate(timeout=60)[0].split()]
    assert len(numbers) == len(set(numbers)) == 150
    assert max(numbers) - min(numbers) == 149
