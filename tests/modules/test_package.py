"""Packages: what goes in comes out; whatever is dressed up as one is refused."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.errors import ConfigInvalid
from mirrorfarm.limits import PACKAGE_BYTES_MAX
from mirrorfarm.modules.package import FILES_MAX, pack, unpack

SCRIPT = b"#!/bin/bash\nexit 0\n"
FILES = {"conf/userconfig.xml": b"<safe/>", "bin/start_prim": SCRIPT, "bin/tool.py": b"x = 1\n"}


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def good(*more: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    return zipped(("conf/userconfig.xml", b"<safe/>"), ("bin/start_prim", SCRIPT), *more)


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def faults_of(package: bytes) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as refused:
        unpack(package, "app.safe")
    return refused.value.faults


def test_round_trip_and_same_bytes_each_time() -> None:
    assert unpack(pack(FILES, "app"), "app") == FILES
    assert pack(FILES, "app") == pack(dict(reversed(FILES.items())), "app")


def test_file_that_compresses_well_still_makes_a_package() -> None:
    files = {**FILES, "bin/blank.txt": b" " * 500_000}
    assert unpack(pack(files, "app"), "app") == files


def test_folders_and_obsolete_files_of_published_packages_are_left_out() -> None:
    package = good(
        ("conf/", b""), ("web/", b""), ("web/index.html", b"<html/>"), ("manifest.xml", b"<m/>")
    )
    assert sorted(unpack(package, "app")) == ["bin/start_prim", "conf/userconfig.xml"]


@pytest.mark.parametrize(
    "name",
    [
        "../etc/passwd",
        "/etc/passwd",
        "bin/../../x",
        "C:\\x",
        "bin\\x",
        "bin/a/b",
        "bin/.hidden",
        "etc/passwd",
        "bin/x y",
        "bin/x\n",
        "bin/caf\u00e9",
        "bin/" + "a" * 65,
        "web/../../x",
        "start_prim",
    ],
)
def test_names_are_of_plain_files_in_two_folders(name: str) -> None:
    assert any(
        "plain files in conf/ and bin/" in fault for fault in faults_of(good((name, SCRIPT)))
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["bin/start_prim", "bin/START_PRIM", "conf/UserConfig.xml"])
def test_names_that_differ_only_in_case_are_the_same_name(name: str) -> None:
    assert any("the same name as" in fault for fault in faults_of(good((name, SCRIPT))))


@pytest.mark.parametrize(
    "mode",
    [stat.S_IFLNK | 0o777, stat.S_IFBLK | 0o600, stat.S_IFIFO | 0o600, stat.S_IFREG | 0o4755],
)
def test_links_devices_and_set_user_id_are_refused(mode: int) -> None:
    (fault,) = faults_of(good((entry("bin/x.sh", mode), b"/etc/shadow")))
    assert "not a regular file" in fault


def test_bombs_are_refused_before_they_go_off() -> None:
    assert "too many" in faults_of(good(("bin/zero.bin", b"\0" * 1_000_000)))[0]
    assert "more than 786432" in faults_of(b"PK\x03\x04" + b"\0" * PACKAGE_BYTES_MAX)[0]
    many = [(f"bin/f{n}.txt", b"") for n in range(FILES_MAX)]
    assert f"at most {FILES_MAX}" in faults_of(good(*many))[0]


def test_scripts_that_could_not_run_are_told() -> None:
    assert "must begin with its interpreter" in faults_of(good(("bin/prestart", b"exit 0\n")))[0]
    windows = b"#!/bin/bash\r\nexit 0\r\n"
    assert "line ends of Windows" in faults_of(good(("bin/prestart", windows)))[0]


def test_userconfig_is_required() -> None:
    assert "absent" in faults_of(zipped(("bin/start_prim", SCRIPT)))[0]


def test_bytes_before_after_and_comments_are_refused() -> None:
    package = good()
    for wrong in (b"#!/bin/sh\n" + package, package + b"x", package[:-2] + b"\x01\x00x"):
        assert faults_of(wrong)
    central = _central(package)
    hidden = package[:central] + b"hidden" + package[central:]
    assert "bytes before, between or after" in faults_of(hidden)[0]


def test_damaged_content_is_found_by_its_checksum() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("conf/userconfig.xml", b"<safe/>")
    package = buffer.getvalue().replace(b"<safe/>", b"<sane/>", 1)
    assert "Bad CRC" in faults_of(package)[0]


def _central(package: bytes) -> int:
    return int(struct.unpack("<L", package[-6:-2])[0])


def _lie_about_the_local_name(package: bytes) -> bytes:
    return package.replace(b"bin/start_prim", b"bin/start_evil", 1)


def _encrypted(package: bytes) -> bytes:
    at = _central(package) + 8
    return package[:at] + b"\x01" + package[at + 1 :]


def _name_cut_by_nul(package: bytes) -> bytes:
    return package.replace(b"bin/start_prim", b"bin/start\0prim")


def _two_names_for_the_same_bytes(package: bytes) -> bytes:
    central = _central(package)
    second = package.index(b"PK\x01\x02", central + 4)
    return package[: second + 42] + b"\0\0\0\0" + package[second + 46 :]


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (_lie_about_the_local_name, "another name where its bytes are"),
        (_encrypted, "encrypted"),
        (_name_cut_by_nul, "plain files in conf/ and bin/"),
        (_two_names_for_the_same_bytes, "overlaps another entry"),
    ],
)
def test_directory_and_content_must_agree(attack: Callable[[bytes], bytes], reason: str) -> None:
    assert any(reason in fault for fault in faults_of(attack(good())))


def test_module_too_large_for_a_package_is_told() -> None:
    noise = b"".join(zlib.crc32(bytes([n % 256, n // 256])).to_bytes(4) for n in range(60_000))
    files = {**FILES, **{f"bin/n{n}.bin": noise[n:] + noise[:n] for n in range(5)}}
    with pytest.raises(ConfigInvalid, match="more than 786432"):
        pack(files, "app")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_files_or_faults(package: bytes) -> None:
    assert faults_of(package)


def test_a_name_that_begins_with_a_nul_is_a_fault() -> None:
    package = good(("bin/tool.py", b"x = 1\n"))
    assert any("without a name" in fault for fault in faults_of(package.replace(b"bin/", b"\0in/")))


@settings(deadline=None)
@given(st.data())
def test_mutated_packages_are_files_or_faults(data: st.DataObject) -> None:
    package = bytearray(good(("bin/tool.py", b"x = 1\n" * 50)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(package) - 1))
        package[at] = data.draw(st.integers(0, 255))
    try:
        files = unpack(bytes(package), "app")
    except ConfigInvalid:
        return
    assert files["conf/userconfig.xml"] == b"<safe/>"
    assert all(path.startswith(("conf/", "bin/")) for path in files)
