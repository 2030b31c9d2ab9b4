"""What a module asks of the machine, tried on real directories."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mirrorfarm.modules import suitability
from mirrorfarm.modules.settings import (
    Farm,
    FarmAddress,
    Module,
    Replicated,
    Replication,
    VirtualAddress,
)
from mirrorfarm.modules.suitability import kind_of, mounts, unsuitable
from mirrorfarm.paths import Paths

if not Path("/dev/fuse").exists():
    pytest.skip("needs /dev/fuse", allow_module_level=True)


def module(*directories: Path | str, name: str = "app", id_: int = 1, tocheck: str = "") -> Module:
    wanted = (tocheck,) if tocheck else ()
    replicated = tuple(Replicated(str(directory), wanted) for directory in directories)
    return Module(name, id_, ("n1", "n2"), replication=Replication(replicated))


def faults_of(wanted: Module, root: Path, *others: Module) -> list[str]:
    return unsuitable(wanted, list(others), paths=Paths(root / "node"), file="u.xml")


def test_a_mount_with_any_name_hides_no_other_one() -> None:
    lines = (
        "36 25 0:31 / /home/user/a\rb\x0b\u2028 rw - fuse.sshfs sshfs rw\n"
        "37 25 0:32 / /data rw - nfs4 server:/ rw\n"
    )
    assert mounts(lines) == [("/home/user/a\rb\x0b\u2028", "fuse.sshfs"), ("/data", "nfs4")]


def test_real_directory_is_fine(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/wanted").touch()
    wanted = str(tmp_path / "data/wanted")
    assert faults_of(module(tmp_path / "data", tocheck=wanted), tmp_path) == []


def test_what_mirrorfarm_runs_from_is_not_replicated(tmp_path: Path) -> None:
    """Who answers for a mount must not wait for what lies on it."""
    package = Path(suitability.__file__).parent
    for directory in {Path(sys.base_prefix), Path(sys.prefix).resolve(), package.resolve()}:
        (fault,) = faults_of(module(directory), tmp_path)
        assert fault.startswith(f"u.xml: replicated.dir: {directory} holds ")
        assert fault.endswith("from which mirrorfarm runs; replicate a directory of data alone")


def test_absent_directory_and_absent_tocheck_are_told_together(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert faults_of(module(data, tocheck=f"{data}/x"), tmp_path) == [
        f"u.xml: replicated.dir: {data} does not exist; mkdir -p {data}",
        f"u.xml: tocheck.path: {data}/x does not exist; create it or mount its disk",
    ]


def test_a_cure_can_be_given_to_a_shell_as_it_is(tmp_path: Path) -> None:
    (fault,) = faults_of(module(tmp_path / "My Data; false"), tmp_path)
    command = fault.partition("does not exist; ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    assert (tmp_path / "My Data; false").is_dir()


def test_an_address_belongs_to_one_module_farm_or_mirror(tmp_path: Path) -> None:
    farm = Farm(addresses=(FarmAddress("198.18.0.9"),))
    one = Module("one", 1, ("n1", "n2"), "farm", farm=farm)
    two = Module("two", 2, ("n1", "n2"), "farm", farm=farm)
    mirror = Module("db", 3, ("n1", "n2"), vips=(VirtualAddress("198.18.0.9"),))
    for wanted, other in ((one, two), (one, mirror), (mirror, one)):
        assert faults_of(wanted, tmp_path, other) == [
            f"u.xml: virtual_addr.addr: 198.18.0.9 is used by module {other.name}; "
            "choose another address"
        ]


def dead(monkeypatch: pytest.MonkeyPatch, directory: Path, kind: str) -> None:
    """Have a file system whose server was killed be mounted on a directory."""

    def ask(path: Any) -> Any:
        if f"{path}/".startswith(f"{directory}/"):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), str(path))
        return real(path)

    real = os.lstat
    found = [("/", "ext4"), (str(directory), kind)]
    monkeypatch.setattr(os, "lstat", ask)
    monkeypatch.setattr(os, "statvfs", ask)
    monkeypatch.setattr(suitability, "mounts", lambda mountinfo: found)


def test_what_a_killed_replicator_left_on_a_directory_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    dead(monkeypatch, data, "fuse.mirrorfarm")
    assert faults_of(module(data, tocheck=f"{data}/x"), tmp_path) == []


def test_a_dead_mount_of_somebody_else_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    dead(monkeypatch, data, "fuse.sshfs")
    faults = faults_of(module(data, tocheck=f"{data}/x"), tmp_path)
    why = "cannot be read (Transport endpoint is not connected); its file system has died: unmount"
    assert [fault.partition(" that (")[0] for fault in faults] == [
        f"u.xml: replicated.dir: {data} {why}",
        f"u.xml: tocheck.path: {data}/x {why}",
    ]


def test_file_and_links_are_no_directories(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    assert "is not a directory" in faults_of(module(tmp_path / "file"), tmp_path)[0]
    for crossing, real in (("link", "real"), ("link/inner", "real/inner")):
        (fault,) = faults_of(module(tmp_path / crossing), tmp_path)
        assert f"symbolic link; write {tmp_path / real}" in fault


def test_file_systems_of_the_kernel_are_refused(tmp_path: Path) -> None:
    assert "is on proc, which holds no files" in faults_of(module("/proc/sys"), tmp_path)[0]
    assert "is on sysfs" in faults_of(module("/sys/kernel"), tmp_path)[0]


def test_own_folders_are_not_replicated(tmp_path: Path) -> None:
    node = tmp_path / "node"
    for directory in (node, node / "var/lib", node / "var/lib/mirrorfarm/modules/app"):
        assert "mirrorfarm's own" in faults_of(module(directory), tmp_path)[0]
    (node / "srv").mkdir(parents=True)
    assert faults_of(module(node / "srv"), tmp_path) == []


def test_two_modules_share_nothing(tmp_path: Path) -> None:
    (tmp_path / "data/inner").mkdir(parents=True)
    vips = (VirtualAddress("198.18.0.100"),)
    mine = msgspec.structs.replace(module(tmp_path / "data"), vips=vips)
    other = msgspec.structs.replace(module(tmp_path / "data/inner", name="web"), vips=vips)
    faults = faults_of(mine, tmp_path, other)
    assert [fault.split(": ")[1] for fault in faults] == [
        "id",
        "virtual_addr.addr",
        "replicated.dir",
    ]
    assert all("module web" in fault for fault in faults)
    assert faults_of(mine, tmp_path, mine) == []


def test_last_mounted_and_nearest_file_system_counts() -> None:
    mounted = mounts(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "23 22 0:20 / /srv\\040data rw shared:1 - xfs /dev/sdb rw\n"
        "24 22 0:21 / /srv\\040data rw - fuse.mirrorfarm mirrorfarm rw\n"
        "25 22 0:22 / /net rw - nfs4 host:/x rw\n"
        "damaged line\n"
    )
    assert kind_of("/srv data", mounted) == "fuse.mirrorfarm"
    assert kind_of("/srv data/x", mounted) == "fuse.mirrorfarm"
    assert kind_of("/srv datax", mounted) == "ext4"
    assert kind_of("/net/x", mounted) == "nfs4"


@pytest.mark.parametrize("mirror", [False, True])
def test_the_address_of_a_farm_is_of_no_other_module(tmp_path: Path, mirror: bool) -> None:
    """Each would remove it from the node when it stops, and filter what is the other's."""
    farm = Farm(addresses=(FarmAddress("2001:db8::100"),))
    first = Module("one", 1, ("n1", "n2"), "farm", farm=farm)
    same = (VirtualAddress("2001:db8:0::100"),)
    other = (
        Module("two", 2, ("n1", "n2"), vips=same)
        if mirror
        else msgspec.structs.replace(first, name="two", id=2)
    )
    told = "u.xml: virtual_addr.addr: 2001:db8::100 is used by module {}; choose another address"
    assert faults_of(first, tmp_path, other) == [told.format("two")]
    assert faults_of(other, tmp_path, first) == [told.format("one")]
