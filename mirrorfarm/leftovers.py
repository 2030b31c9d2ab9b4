"""What is left on a node of a module whose process cannot stop it any more.

Whoever takes such a module away leaves to nobody what goes on: the application writes past what
is replicated, and the virtual address answers here as well as where it is served next.
"""

import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress

from mirrorfarm.actors.cgroup import Cgroup, scope_of
from mirrorfarm.actors.guard.process import Addresses
from mirrorfarm.actors.replicator import users
from mirrorfarm.actors.replicator.fuse import mount
from mirrorfarm.errors import Refused, SystemUnsuitable
from mirrorfarm.modules import install
from mirrorfarm.modules.settings import Module
from mirrorfarm.paths import Paths
from mirrorfarm.process import lock_holder, replica_lock_path, say

SHOWN_MAX = 8  # Processes and addresses; an application may have thousands.


def require_none(paths: Paths, node: str, name: str, why: str) -> None:
    """Raise Refused if the application of a module, or a virtual address, is on this node.

    `why`: the module cannot stop it. Mounts alone end with their replicator. OSError: not known.
    """
    addresses, directories = install.claimed(paths, name)
    found = [*_processes(paths, node, name, directories), *_addresses(addresses)]
    if not found:
        return
    left = "; ".join(what for what, _ in found[:SHOWN_MAX])
    cures = ", ".join(f"`{cure}`" for _, cure in found[:SHOWN_MAX])
    more = f"; and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else ""
    raise Refused(
        f"{name} cannot be stopped on {node} ({why}), and is still there: {left}{more}. Mend that, "
        f"then stop it with `mirrorfarm -H {node} stop -m {name}`; or end by hand what is left "
        f"({cures}), and repeat this"
    )


def clear(paths: Paths, name: str) -> None:
    """Remove what serves nobody any more: dead mounts, the filter of a farm.

    For a module without processes, and of which nothing else is left. Raises SystemUnsuitable or
    OSError if something stays.
    """
    for directory in install.claimed(paths, name)[1]:
        mount.clear_leftover(_way(directory))
    ledger = paths.run / "kernel-parameters.json"
    if ledger.with_name(f"{name}.farm.json").exists():
        from mirrorfarm.actors.farm_filter.leftovers import Leftovers  # noqa: PLC0415  # Heavy.

        module = Module(name, install.module_id(paths, name), ())
        Leftovers(module, ledger, lambda _, text: say(f"{name}: {text}")).clear()


def give_back(paths: Paths, node: str, name: str) -> None:
    """Remove the control group of a module that is not configured any more, if it is empty."""
    group = Cgroup(scope_of(paths.root, node, name))
    with suppress(SystemUnsuitable):  # There is none, then.
        group.create()  # Which finds the one that is there.
        group.remove()


def _way(directory: str) -> bytes:
    return os.path.realpath(os.fsencode(directory))


def _processes(
    paths: Paths, node: str, name: str, directories: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Give each process of the application, and each that uses what is mounted, with its cure."""
    scope = scope_of(paths.root, node, name)
    found = {user.pid: f"process {user}" for user in users.members(scope)}
    replicator = lock_holder(replica_lock_path(paths, name))
    for directory in directories:
        mounted = mount.topmost(_way(directory))
        if mounted is not None and mounted.kind == mount.KIND:
            for user in users.users(mounted.point, scope):
                if user.pid != replicator:
                    found.setdefault(user.pid, f"process {user}, which uses {directory}")
    for pid, what in found.items():
        yield what, f"kill {pid}"


def _addresses(addresses: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give each of these addresses that is on this node, with its cure."""
    claimed = {ipaddress.ip_address(one) for one in addresses}
    if not claimed:
        return
    with closing(Addresses()) as node:
        present = node.present()
    for _, prefix, index, packed in present:
        address = ipaddress.ip_address(packed)
        if address in claimed:
            interface = socket.if_indextoname(index)
            where = f"{address}/{prefix} dev {interface}"
            yield f"address {address} on {interface}", f"ip address del {where}"
