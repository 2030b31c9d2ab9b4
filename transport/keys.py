"""Who may talk to whom: the CURVE keys of a node, how it gets them, and its incarnations.

`keys/keys.json` (0600 in a folder 0700) holds the cluster, the own name and secret key and the
public keys of every node and witness; it is replaced whole or not at all.
"""

import contextlib
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import zmq
from zmq.utils import z85

from mirrorfarm.errors import KeyInvalid, RecordInvalid, SystemUnsuitable
from mirrorfarm.limits import (
    FIRST_INCARNATION_MAX,
    FRAME_BYTES_MAX,
    NAME_PATTERN,
    PEERS_MAX,
    SECOND_NS,
)
from mirrorfarm.oserrors import naming, told
from mirrorfarm.paths import Paths

KEY_FILE: Final = "keys.json"
BUNDLE_BYTES_MAX: Final = FRAME_BYTES_MAX
INCARNATION_MAX: Final = 2**62
# Printed in the manual page zmq_curve(7): everybody has the secret of these.
PUBLISHED_KEYS: Final = frozenset(
    (
        "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
        "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
    )
)
_NAME: Final = re.compile(NAME_PATTERN)
_CLUSTER: Final = re.compile(r"[0-9a-f]{16}")
_Kind = TypeVar("_Kind")


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contents of keys.json."""

    cluster: str
    name: str
    secret: str
    public: dict[str, str]


class _Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contents of NAME.join: all that a machine needs in order to become NAME."""

    cluster: str
    name: str
    secret: str
    public: dict[str, str]
    cluster_xml: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The identity of a node or witness, and the public keys of the others. Z85 text."""

    cluster: str
    name: str
    secret: str
    public: str
    peers: dict[str, str]

    def __repr__(self) -> str:
        return f"Keys(cluster={self.cluster!r}, name={self.name!r})"  # Never the secret.


def create_cluster(  # noqa: PLR0917 - what a cluster is made of, in the order of the command.
    cluster_xml_text: str,
    node_names: Iterable[str],
    witness_names: Iterable[str],
    own_name: str,
    paths: Paths,
    bundles_dir: Path,
) -> Keys:
    """Make a cluster: install the own keys, write NAME.join for each other name.

    Raise KeyInvalid if this machine belongs to a cluster already, or for bad names.
    """
    names = (*node_names, *witness_names)
    _check_names(names, own_name, bundles_dir)
    _refuse_second_cluster(paths)
    cluster = secrets.token_hex(8)
    pairs = {name: _new_pair() for name in names}
    public = {name: pair[0] for name, pair in pairs.items()}
    _make_for_bundles(bundles_dir)
    for name in names:
        if name != own_name:
            bundle = _Bundle(cluster, name, pairs[name][1], public, cluster_xml_text)
            _replace(bundles_dir / f"{name}.join", msgspec.json.encode(bundle))
    return _install(_Bundle(cluster, own_name, pairs[own_name][1], public, cluster_xml_text), paths)


def join_cluster(bundle_file: Path, paths: Paths) -> Keys:
    """Install what a join bundle holds. Raise KeyInvalid, and change nothing, if it is bad.

    Who joins again keeps its cluster.xml, which may have been edited since the bundle was made.
    """
    data = _read_secret(bundle_file, "make a new one with `mirrorfarm cluster init`")
    bundle = _decode(data, _Bundle, bundle_file)
    _check(bundle, bundle_file)
    again = _refuse_second_cluster(paths, bundle.cluster, bundle.name)
    return _install(bundle, paths, keeps_xml=again and paths.cluster_xml.exists())


def load_keys(paths: Paths) -> Keys:
    """Return the keys of this node; raise KeyInvalid with path, reason and cure."""
    path = paths.keys / KEY_FILE
    data = _read_secret(path, "run `mirrorfarm cluster init` or `mirrorfarm cluster join` first")
    stored = _decode(data, _Stored, path)
    return _check(stored, path)


def next_incarnation(paths: Paths) -> int:
    """Return a number higher than any returned before on this node, durably.

    The first is the time of day in seconds, or FIRST_INCARNATION_MAX, so that a node that was
    installed anew continues above its earlier life, which its peers remember. Raise RecordInvalid
    if the file is damaged, SystemUnsuitable if the disk does not take it.
    """
    path = paths.lib / "incarnation"
    try:
        return _count_up(path, paths)
    except OSError as error:
        raise SystemUnsuitable(
            f"{path}: {error.strerror}: nothing can start without a durable state; free or mend "
            "the disk, the start is repeated"
        ) from error


def _count_up(path: Path, paths: Paths) -> int:
    paths.lib.mkdir(parents=True, exist_ok=True)
    with _locked(paths.lib / "incarnation.lock"):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            number = min(max(1, time.time_ns() // SECOND_NS), FIRST_INCARNATION_MAX)
        else:
            if not re.fullmatch(rb"[0-9]{1,18}\n", text):
                raise RecordInvalid(
                    f"{path}: not a number: the count of this node's starts is damaged; "
                    "remove the file while mirrorfarm is stopped"
                )
            number = int(text) + 1
        assert number < INCARNATION_MAX
        _replace(path, b"%d\n" % number)
    return number


# --- checks --------------------------------------------------------------------------------


def _check_names(names: tuple[str, ...], own_name: str, where: Path) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise KeyInvalid(f"{where}: {name!r} is not a name ({NAME_PATTERN}): rename the node")
    if len(set(names)) != len(names):
        raise KeyInvalid(f"{where}: a name occurs twice: give nodes and witnesses distinct names")
    if own_name not in names:
        raise KeyInvalid(f"{where}: {own_name!r} is not in cluster.xml: add it, or say who I am")
    if len(names) > PEERS_MAX:
        raise KeyInvalid(f"{where}: {len(names)} names, at most {PEERS_MAX} allowed: remove some")


def _check(stored: _Stored | _Bundle, path: Path) -> Keys:
    """Return the keys if they fit together; raise KeyInvalid."""
    cure = "join the cluster again with the bundle of this node"
    if not _CLUSTER.fullmatch(stored.cluster):
        raise KeyInvalid(f"{path}: cluster is not 16 hex digits: {cure}")
    _check_names(tuple(stored.public), stored.name, path)
    for name, key in stored.public.items():
        if not _is_key(key):
            raise KeyInvalid(f"{path}: public key of {name} is malformed: {cure}")
        if key in PUBLISHED_KEYS:
            raise KeyInvalid(
                f"{path}: the key of {name} is printed in a manual, everybody has its secret: "
                "create the cluster anew"
            )
    if len(set(stored.public.values())) != len(stored.public):
        raise KeyInvalid(f"{path}: two names have the same key: create the cluster anew")
    if not _is_key(stored.secret):
        raise KeyInvalid(f"{path}: secret key is malformed: {cure}")
    public = zmq.curve_public(stored.secret.encode()).decode()
    if public != stored.public[stored.name]:
        raise KeyInvalid(f"{path}: secret and public key of {stored.name} do not match: {cure}")
    peers = {name: key for name, key in stored.public.items() if name != stored.name}
    return Keys(stored.cluster, stored.name, stored.secret, public, peers)


def _is_key(text: str) -> bool:
    """Return whether `text` is 32 bytes in Z85 (ZeroMQ RFC 32)."""
    if len(text) != 40 or not re.fullmatch(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]+", text):
        return False
    # Five characters may also say more than four bytes hold: then decoding wraps or raises.
    try:
        return z85.encode(z85.decode(text)) == text.encode()
    except Exception:  # Whatever the library raises for what is no Z85.
        return False


def _refuse_second_cluster(paths: Paths, cluster: str = "", name: str = "") -> bool:
    """Return whether this machine is `name` of the cluster; raise KeyInvalid: it is another."""
    path = paths.keys / KEY_FILE
    if not path.exists():
        return False
    stored = _decode(path.read_bytes(), _Stored, path) if cluster else None
    if stored is None or stored.cluster != cluster:
        raise KeyInvalid(
            f"{path}: this machine belongs to a cluster already: "
            "stop mirrorfarm and remove the file if it shall leave that one"
        )
    if stored.name != name:
        raise KeyInvalid(
            f"{path}: this machine is {stored.name} of that cluster, and its secret key is nowhere "
            f"else: join on the machine that shall be {name}; stop mirrorfarm and remove the file "
            "only if it is this one"
        )
    return True


def _decode(data: bytes, kind: type[_Kind], path: Path) -> _Kind:
    try:
        return msgspec.json.decode(data, type=kind, strict=True)
    except (msgspec.MsgspecError, ValueError, RecursionError) as cause:
        # The cause may quote what it read: it is not told.
        raise KeyInvalid(
            f"{path}: not a key file ({type(cause).__name__}): copy it again from where it was made"
        ) from None


# --- files ---------------------------------------------------------------------------------


def _new_pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def _install(bundle: _Bundle, paths: Paths, *, keeps_xml: bool = False) -> Keys:
    keys = _check(bundle, paths.keys / KEY_FILE)
    paths.etc.mkdir(parents=True, exist_ok=True)
    _make_private(paths.keys)
    if not keeps_xml:
        _replace(paths.cluster_xml, bundle.cluster_xml.encode(), mode=0o644)
    # Last: a node without this file belongs to no cluster yet, and may join again.
    stored = _Stored(bundle.cluster, bundle.name, bundle.secret, bundle.public)
    _replace(paths.keys / KEY_FILE, msgspec.json.encode(stored))
    return keys


def _make_for_bundles(folder: Path) -> None:
    """Make a folder; one that is there already stays as it is, for it may be anybody's (/tmp)."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if folder.stat().st_mode & 0o022:
            raise KeyInvalid(
                f"{folder}: group or others may write there, and put a bundle of theirs in the "
                "place of ours: name a folder that does not exist yet"
            ) from None


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def _read_secret(path: Path, cure: str) -> bytes:
    """Return the contents of a file that only its owner may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as cause:
        raise KeyInvalid(f"{path}: {cause.strerror}: {cure}") from None
    except OSError as cause:  # It may be there: other keys would be another cluster's.
        raise KeyInvalid(told(cause)) from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyInvalid(f"{path}: not a regular file: {cure}")
        if status.st_mode & 0o077:
            raise KeyInvalid(
                f"{path}: readable by group or others: `chmod 600 {path}`, "
                "and create the cluster anew if anybody may have read it"
            )
        data = file.read(BUNDLE_BYTES_MAX + 1)
    if len(data) > BUNDLE_BYTES_MAX:
        raise KeyInvalid(f"{path}: larger than {BUNDLE_BYTES_MAX} bytes: {cure}")
    return data


def _replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make `data` the contents of `path`, durably: all of it or none, whenever power fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with naming(path), open(os.open(temporary, flags, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # Gives the lock back.
