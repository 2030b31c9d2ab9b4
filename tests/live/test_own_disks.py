"""A node that is started while the disk of its own that its data are on is not mounted.

Nothing is said of that in the configuration: the node remembers it.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.replicator.whereabouts import disk_of
from mirrorfarm.errors import MirrorfarmError
from tests.live.fault_work import MODULE, OTHER, Client, Lab, move_data

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
DATA = "/var/lib/ledger"
DISK = "/run/disk"  # Where the disk stays mounted, and keeps what is on it.
REFUSED = f"{DATA} must be mounted before {DATA} is replicated"


class OwnDisksLab(Lab):
    """A ledger whose data are on a disk of their own on each node."""

    def install(self, module: str, *options: Any, **more: Any) -> None:
        for node in self.nodes:
            self.machines[node].disk(DATA).mkdir(parents=True)
            do(self, node, "mkdir", DISK)
            do(self, node, "mount", "-t", "tmpfs", "tmpfs", DISK)
            do(self, node, "mount", "--bind", DISK, DATA)
        super().install(module, *options, **more)


LAB = OwnDisksLab


def do(lab: Lab, node: str, *words: str) -> None:
    done = lab.run(node, [*words])
    assert not done.returncode, done.stderr


@contextmanager
def without_disk(lab: Lab, node: str) -> Iterator[None]:
    """Have nothing mounted on the directory."""
    do(lab, node, "umount", DATA)
    yield
    do(lab, node, "mount", "--bind", DISK, DATA)


@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_node_that_lost_its_disk_does_not_pass_for_a_copy(
    lab: Lab, client: Client, victim: str
) -> None:
    lab.order(victim, "stop")
    client.go_on(60)
    with without_disk(lab, victim):
        lab.order(victim, "start")
        reason = lab.await_words(victim, "the data of this node cannot be trusted", 60)
        assert REFUSED in reason
        lab.wait_state(victim, "WAIT", 60, status="NotReady")
        assert lab.role(OTHER[victim]) == "ALONE Ready"
        client.go_on(60)
        assert f"mirrorfarm -H {victim} stopstart -m {MODULE}" in lab.why()
        assert list(lab.machines[victim].disk(DATA).iterdir()) == [], "nothing is copied there"
    lab.order(victim, "stopstart")
    lab.pair(60)


@pytest.mark.parametrize("covered", [False, True], ids=["bare", "covered by another folder"])
def test_nobody_serves_the_directory_beneath_a_disk(
    lab: Lab, client: Client, covered: bool
) -> None:
    lab.order("n2", "stop")
    lab.wait_state("n1", "ALONE", 60)
    client.go_on(60)
    lab.order("n1", "stop")
    with without_disk(lab, "n1"):
        if covered:
            do(lab, "n1", "mkdir", "-p", "/var/lib/other")
            do(lab, "n1", "mount", "--bind", "/var/lib/other", DATA)
        lab.order("n1", "start")
        lab.await_words("n1", REFUSED, 60)
        lab.wait_state("n1", "WAIT", 60, status="NotReady")
        lab.order("n2", "start")  # It must not be made equal to what is empty.
        lab.await_words("n2", "the newest are on n1", 60)
        if covered:
            do(lab, "n1", "umount", DATA)
    lab.order("n1", "stopstart")
    lab.pair(60)
    client.go_on(60)


def test_a_disk_that_is_given_up_is_copied_to_another_one_as_a_whole(
    lab: Lab, client: Client
) -> None:
    remembered = lab.paths("n2").module_lib(MODULE) / "disks"
    lab.order("n2", "stop")
    with without_disk(lab, "n2"):
        remembered.unlink()
        lab.mirrorfarm("n2", "second", "fullsync", "-m", MODULE)
        lab.pair(60)
        lab.swap("n1")
        client.go_on(60)
        lab.swap("n2")
        lab.order("n2", "stop")
        do(lab, "n2", "sh", "-c", f"rm -rf {DISK}/* && mv {DATA}/* {DISK}")
    move_data(lab, "n2")
    lab.order("n2", "start")
    lab.pair(60)


def test_a_disk_that_is_mounted_over_newer_data_does_not_pass_for_them(
    lab: Lab, client: Client
) -> None:
    lab.order("n2", "stop")
    with without_disk(lab, "n2"):
        move_data(lab, "n2")  # By mistake.
        lab.order("n2", "start")
        lab.pair(60)
        client.go_on(60)
        lab.order("n2", "stop")
        do(lab, "n2", "sh", "-c", f"rm -rf {DATA}/*")
    lab.order("n2", "start")
    lab.await_words("n2", f"{DATA} is on the disk of {DATA} now, and was on that of", 60)
    lab.wait_state("n2", "WAIT", 60, status="NotReady")
    client.go_on(60)
    lab.order("n2", "stop")
    move_data(lab, "n2")
    lab.mirrorfarm("n2", "second", "fullsync", "-m", MODULE)
    lab.swap("n1")
    client.go_on(60)


def test_not_even_a_forced_node_serves_the_directory_beneath_a_disk(
    lab: Lab, client: Client
) -> None:
    lab.order("n2", "stop")
    lab.order("n1", "stop")
    with without_disk(lab, "n1"):
        with pytest.raises(MirrorfarmError, match="the order stands although it failed: n1 is"):
            lab.mirrorfarm("n1", "primforce", "-m", MODULE)
        lab.await_words("n1", REFUSED, 60)
        lab.wait_state("n1", "WAIT", 60, status="NotReady")
        lab.order("n1", "stop")
    lab.order("n2", "start")
    lab.order("n1", "start")
    lab.pair(60)


def test_data_that_were_moved_to_another_disk_are_used_once_the_administrator_says_so(
    lab: Lab, client: Client
) -> None:
    remembered = lab.paths("n2").module_lib(MODULE) / "disks"
    lab.order("n2", "stop")
    with without_disk(lab, "n2"):
        do(lab, "n2", "cp", "-a", f"{DISK}/.", DATA)
        lab.order("n2", "start")
        assert str(remembered) in lab.await_words("n2", REFUSED, 60)
        remembered.unlink()
        lab.order("n2", "stopstart")
        lab.pair(60)
        lab.swap("n1")
        client.go_on(60)
        lab.swap("n2")
        lab.order("n2", "stop")
        do(lab, "n2", "sh", "-c", f"rm -rf {DISK}/* && mv {DATA}/* {DISK}")
    move_data(lab, "n2")
    lab.order("n2", "start")
    lab.pair(60)


@pytest.mark.parametrize("victim", ["n1", "n2"])
@pytest.mark.parametrize("how", ["unmounted", "mounted over"])
def test_a_node_whose_directory_somebody_took_away_is_left_behind_and_its_disk_stays(
    lab: Lab, client: Client, how: str, victim: str
) -> None:
    client.go_on(60)
    if how == "unmounted":
        do(lab, victim, "umount", "-l", DATA)
    else:
        do(lab, victim, "mount", "-t", "tmpfs", "tmpfs", DATA)
    lab.wait_state(OTHER[victim], "ALONE", 60)
    lab.await_words(victim, f"{DATA} was unmounted, or mounted over, by somebody", 60)
    lab.wait_state(victim, "WAIT", 60, status="NotReady")
    client.go_on(60)
    if how == "mounted over":
        lab.order(victim, "stopstart")
        lab.await_words(victim, f"unmount it: umount {DATA}", 60)
        lab.wait_state(victim, "WAIT", 60, status="NotReady")
        do(lab, victim, "umount", DATA)
    lab.order(victim, "stopstart")
    lab.pair(60)
    client.go_on(60)


def test_a_disk_is_told_from_mounts_of_the_same_one_and_from_those_that_are_hidden(
    tmp_path: Path,
) -> None:
    def mount(*words: str | Path) -> None:
        subprocess.run(["mount", *words], check=True)
        ends.callback(subprocess.run, ["umount", words[-1]], check=True)

    beneath, disk = disk_of(str(tmp_path)), tmp_path / "a disk"
    data = disk / "folder/data"
    data.mkdir(parents=True)
    with ExitStack() as ends:
        mount("-t", "tmpfs", "tmpfs", data)
        assert disk_of(str(data)) == str(data)
        mount("-t", "tmpfs", "tmpfs", disk)  # Above it.
        data.mkdir(parents=True)
        assert disk_of(str(data)) == str(disk)
        mount("--bind", disk / "folder", data)
        assert disk_of(str(data)) == str(disk)
        mount("--bind", tmp_path, data)
        assert disk_of(str(data)) == str(data)
    beside = tmp_path / "folder"
    beside.mkdir()
    with ExitStack() as ends:
        mount("--bind", beside, data)
        assert disk_of(str(data)) == beneath
