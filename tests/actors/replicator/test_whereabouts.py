"""What a node remembers of the disks that its replicated directories are on."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from mirrorfarm.actors.replicator.whereabouts import Whereabouts, disk_of
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.modules.settings import Replicated, Replication


class Case:
    """A directory without a disk of its own, and what is remembered of it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "disk/data"
        self.data.mkdir(parents=True)
        self.file = folder / "lib/disks"
        self.reports: list[str] = []
        self.made_anew()

    def made_anew(self) -> None:
        """Be a process that was just started."""
        replication = Replication((Replicated(str(self.data)),))
        beside = self.file.with_name("changes")
        self.places = Whereabouts(beside, replication, self.reports.append)

    def remember(self, disk: Path | str, directory: Path | None = None, version: int = 1) -> None:
        self.file.parent.mkdir(exist_ok=True)
        disks = {str(directory or self.data): str(disk)}
        self.file.write_bytes(msgspec.json.encode({"version": version, "disks": disks}))

    @property
    def remembered(self) -> dict[str, str]:
        found: dict[str, str] = msgspec.json.decode(self.file.read_bytes())["disks"]
        return found

    def mount(self) -> None:
        with self.places.required():
            pass


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_the_disk_of_a_directory_is_the_mount_above_it() -> None:
    assert disk_of("/") == "/"
    assert disk_of("/proc/self") == "/proc"
    assert disk_of("/proc/nothing/there") == "/proc"


def test_what_is_found_where_nothing_is_known_is_remembered_for_nobody_else(case: Case) -> None:
    case.mount()
    assert case.remembered == {str(case.data): disk_of(str(case.data))}
    assert stat.S_IMODE(case.file.stat().st_mode) == 0o600
    case.made_anew()
    case.mount()
    assert case.reports == []


def test_what_is_not_mounted_over_in_the_end_is_not_remembered(case: Case) -> None:
    with pytest.raises(OSError, match="no mount"), case.places.required():
        raise OSError("no mount")
    assert not case.file.exists()


@pytest.mark.parametrize("above", [0, 1], ids=["the directory", "one above it"])
def test_a_directory_whose_disk_is_not_mounted_any_more_is_refused(case: Case, above: int) -> None:
    disk = [case.data, *case.data.parents][above]
    case.remember(disk)
    before = case.file.read_bytes()
    for _ in range(2):
        with pytest.raises(SystemUnsuitable) as refused:
            case.mount()
        assert str(refused.value) == (
            f"{disk} must be mounted before {case.data} is replicated (its data were on that disk, "
            "and what is there now may be empty); "
            f"if they were moved to another disk, remove {case.file}"
        )
        assert case.file.read_bytes() == before
        case.made_anew()
    case.file.unlink()  # Also of a process that knew it.
    case.mount()
    assert case.remembered == {str(case.data): disk_of(str(case.data))}


def test_a_disk_is_missing_also_where_the_directory_itself_lies_on_it(case: Case) -> None:
    case.remember(case.data.parent)
    case.data.rmdir()
    with pytest.raises(SystemUnsuitable, match="must be mounted"):
        case.mount()


def test_a_similar_name_is_not_the_disk(case: Case) -> None:
    case.remember(f"{case.data}base")
    with pytest.raises(SystemUnsuitable, match="must be mounted"):
        case.mount()


def test_a_disk_that_was_added_is_used_once_the_administrator_says_so(tmp_path: Path) -> None:
    file = tmp_path / "disks"
    file.write_bytes(msgspec.json.encode({"version": 1, "disks": {"/proc/self": "/"}}))
    places = Whereabouts(file, Replication((Replicated("/proc/self"),)), print)
    with pytest.raises(SystemUnsuitable) as refused, places.required():
        pass
    assert str(refused.value) == (
        "/proc/self is on the disk of /proc now, and was on that of / (what is there may be empty, "
        f"or older); if its data were moved there, remove {file}; "
        "if not, do so before an order `second fullsync`"
    )
    file.unlink()
    with places.required():
        pass
    assert msgspec.json.decode(file.read_bytes())["disks"] == {"/proc/self": "/proc"}


def test_a_directory_that_is_not_replicated_for_a_while_is_not_forgotten(
    case: Case, tmp_path: Path
) -> None:
    broken, disk = tmp_path / "broken", tmp_path / "its disk"
    broken.mkdir()
    case.remember(disk, broken)
    case.mount()
    assert case.remembered == {str(broken): str(disk), str(case.data): disk_of(str(case.data))}
    both = Replication((Replicated(str(case.data)), Replicated(str(broken))))
    with (
        pytest.raises(SystemUnsuitable, match=f"{disk} must be mounted before {broken}"),
        Whereabouts(case.file, both, case.reports.append).required(),
    ):
        pass


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b'{"version": 1}', b'{"version": 1, "disks": {"/a": 1}}'),
        b'{"version": 1, "disks": {"/a": "/\xe1"}}',
        b'{"version": 1, "disks": {}, "more": ' + 9_999 * b"[" + 9_999 * b"]" + b"}",
    ],
    ids=["empty", "cut", "without disks", "of wrong type", "not UTF-8", "deep"],
)
def test_a_damaged_file_is_told_and_made_anew(case: Case, content: bytes) -> None:
    case.remember(case.data)
    case.file.write_bytes(content)
    case.mount()
    assert len(case.reports) == 1
    assert case.reports[0].startswith(f"{case.file} is damaged, and made anew: ")
    assert case.remembered == {str(case.data): disk_of(str(case.data))}


def test_a_file_of_another_version_says_nothing(case: Case) -> None:
    case.remember(case.data, version=2)
    case.mount()
    assert case.remembered == {str(case.data): disk_of(str(case.data))}


def test_a_file_that_cannot_be_read_is_no_reason_to_believe_what_is_there(case: Case) -> None:
    case.file.mkdir(parents=True)
    with pytest.raises(OSError, match=os.strerror(21)):
        case.mount()


def test_what_cannot_be_remembered_is_told_and_keeps_nobody_waiting(case: Case) -> None:
    case.file.with_name("disks.new").mkdir(parents=True)
    case.mount()
    assert len(case.reports) == 1
    assert case.reports[0].startswith("which disks the data are on cannot be remembered: ")
