"""userconfig.xml: one module, checked value by value, then as a whole, into a frozen record."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from mirrorfarm.limits import MODULES_MAX, NAME_PATTERN, REPLICATION_PORT_FIRST
from mirrorfarm.modules.addresses import build_vips, check_pinged
from mirrorfarm.modules.clocks import build_heartbeats, build_timing, timeouts_aside
from mirrorfarm.modules.expressions import matches_all
from mirrorfarm.modules.farmconfig import build_farm, check_mode
from mirrorfarm.modules.faults import Faults, shown
from mirrorfarm.modules.schema import Checked, Checker, Macros
from mirrorfarm.modules.settings import (
    Arbiter,
    Cluster,
    Farm,
    Module,
    Process,
    Replicated,
    Replication,
    Timing,
)
from mirrorfarm.modules.userschema import ADDRESSES_MAX, SAFE
from mirrorfarm.modules.xml import parse

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
# Variables that change which program runs or what a shell does, and those we set ourselves.
_RESERVED = re.compile(
    r"SAFE.*|MIRRORFARM_.*|PATH|IFS|ENV|BASH.*|SHELLOPTS|PS4|CDPATH|LD_.*|PYTHON.*|PERL5?.*"
)
WATCHED: Final = ("pre", "prim", "both")  # Classes of processes, in a farm and alone;
WATCHED_ASIDE: Final = (*WATCHED, "second", "sec")  # and in a mirror.
PROCESS_NAME_CHARACTERS_MAX: Final = 15  # The kernel keeps no more of a command's name.


def parse_userconfig(
    text: bytes,
    file: str,
    *,
    name: str,
    id: int,
    cluster: Cluster,
    environment: Mapping[str, str],
    notes: list[str] | None = None,
    used: dict[str, str] | None = None,
) -> Module:
    """Return the module that a userconfig.xml describes; `file` names it in the faults.

    `environment` gives values to %macros% that the file does not define. `notes` receives what
    was read without effect, `used` the variables that were taken from the environment.
    Raises ConfigInvalid with every fault found.
    """
    faults = Faults(file)
    if not re.fullmatch(NAME_PATTERN, name):
        faults.add(0, "module", f"{shown(name)!r} cannot name a module: {NAME_PATTERN}")
    if not 1 <= id <= MODULES_MAX:
        faults.add(0, "id", f"{id} is not within 1 to {MODULES_MAX}")
    tree = parse(text, faults)
    if tree is not None and tree.tag != "safe":
        faults.add(tree.line, shown(tree.tag), "the root element must be safe")
    faults.raise_if_any()
    assert tree is not None
    macros = Macros(environment)
    macros.define(tree, faults)
    checked = Checker(faults, macros, notes if notes is not None else []).check(tree, SAFE)
    faults.raise_if_any()  # What follows relates values that are valid one by one.
    module = _build(checked.all("service")[0], name, id, cluster, faults)
    faults.raise_if_any()
    if notes is not None:
        notes += [*_no_way_back(module), *timeouts_aside(module), *_unwatched(module)]
    if used is not None:
        used.update(macros.used)
    return module


def claims(text: bytes, environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the virtual addresses and the replicated directories that a userconfig.xml names.

    Of a file with faults, and of one that fits its cluster no more, as far as it can be read.
    """
    faults = Faults("")
    tree = parse(text, faults)
    if tree is None:
        return [], []
    macros = Macros(environment)
    macros.define(tree, faults)
    elements = list(_below(Checker(faults, macros, []).check(tree, SAFE)))
    addresses = [one["addr"] for one in elements if one.tag == "virtual_addr"]
    directories = [one["dir"] for one in elements if one.tag == "replicated"]
    return [str(one) for one in addresses if one], [str(one) for one in directories if one]


def _below(element: Checked) -> Iterator[Checked]:
    yield element
    for child in element.children:
        yield from _below(child)


def _build(service: Checked, name: str, id_: int, cluster: Cluster, faults: Faults) -> Module:
    check_mode(service, faults)
    nodes = _nodes(service, cluster, faults)
    mirror = service["mode"] == "mirror"
    timing = build_timing(service, faults) if mirror else Timing()
    prim = str(service["defaultprim"])
    if prim not in {"alone", "lastprim", *nodes}:
        reason = f"{prim} is neither alone, lastprim nor a node of this module"
        faults.add(service.line, "service.defaultprim", reason)
    errd, user, vip = (service.first(tag) for tag in ("errd", "user", "vip"))
    if errd is not None and user is None:
        reason = "requires <user/>: without it no script runs that could restart anything"
        faults.add(errd.line, "errd", reason)
    module = Module(
        name=name,
        id=id_,
        nodes=nodes,
        mode=service["mode"],
        boot=service["boot"],
        failover=service["failover"],
        defaultprim=prim,
        maxloop=service["maxloop"],
        loop_interval_ns=service["loop_interval"],
        timing=timing,
        heartbeats=build_heartbeats(service, timing, nodes, cluster, faults) if mirror else (),
        vips=build_vips(vip, cluster, faults) if mirror else (),
        replication=_replication(service.first("rfs"), faults),
        processes=_processes(errd, faults),
        arbiter=_arbiter(service, cluster, faults) if mirror else Arbiter(),
        farm=build_farm(service, nodes, cluster, faults) if service["mode"] == "farm" else Farm(),
    )
    _check_port(module, cluster, service, faults)
    check_pinged(service.first("arbiter"), module, cluster, faults)
    return _with_scripts(module, errd, user, vip, faults)


def _with_scripts(
    module: Module,
    errd: Checked | None,
    user: Checked | None,
    vip: Checked | None,
    faults: Faults,
) -> Module:
    """Return `module` with what its optional elements say; without them the defaults stay."""
    changes: dict[str, object] = {"has_scripts": user is not None}
    if errd is not None:
        changes["errd_poll_ns"] = errd["polltimer"]
    if vip is not None:
        changes["tcpreset"] = vip["tcpreset"]
    if user is not None:
        changes |= {
            "variables": _variables(user, faults),
            "nice_stop_ns": user["nicestoptimeout"],
            "force_stop_ns": user["forcestoptimeout"],
            "start_ns": user["starttimeout"],
            "script_log": user["logging"] == "userlog",
            "script_log_bytes_max": user["userlogsize"] * 1_024,
        }
    return msgspec.structs.replace(module, **changes)


def _nodes(service: Checked, cluster: Cluster, faults: Faults) -> tuple[str, ...]:
    """Return the nodes of a module: those given, else the cluster's (two, of a mirror)."""
    mirror = service["mode"] == "mirror"
    given: tuple[str, ...] = service["nodes"]
    known = ", ".join(cluster.nodes)
    if not given and "nodes" in service.given:
        faults.add(service.line, "service.nodes", "names no node (an empty macro?); name some")
        return cluster.nodes[:2]
    if not given and not mirror:
        return cluster.nodes
    if not given:
        if len(cluster.nodes) != 2:
            reason = f'the cluster has more than two nodes; write nodes="n1 n2", out of: {known}'
            faults.add(service.line, "service.nodes", reason)
        return cluster.nodes[:2]
    for node in given:
        if node not in cluster.nodes:
            reason = f"{node} is not in cluster.xml, which has: {known}"
            faults.add(service.line, "service.nodes", reason)
    if mirror and (len(given) != 2 or len(dict.fromkeys(given)) != 2):
        faults.add(service.line, "service.nodes", "a mirror has exactly two different nodes")
    elif len(dict.fromkeys(given)) != len(given):
        faults.add(service.line, "service.nodes", "a node is named twice")
    return given


def _replication(rfs: Checked | None, faults: Faults) -> Replication:
    if rfs is None:
        return Replication()
    directories = tuple(_replicated(element, faults) for element in rfs.all("replicated"))
    seen: list[str] = []
    for element in rfs.all("replicated"):
        here = str(element["dir"])
        for other in seen:
            if here == other:
                faults.add(element.line, "replicated.dir", f"{here} is replicated twice")
            elif nested(here, other):
                reason = f"{here} and {other} lie in each other; replicate the upper one alone"
                faults.add(element.line, "replicated.dir", reason)
        seen.append(here)
    aside = str(rfs["quarantine"])
    for here in seen:
        if aside and nested(aside, here):
            reason = f"{aside} and {here} lie in each other; what is set aside must not be copied"
            faults.add(rfs.line, "rfs.quarantine", reason)
    return Replication(
        directories=directories,
        ack_mode="durable" if rfs["async"] == "none" else "received",
        mode=rfs["mode"],
        threads=rfs["threads"],
        divergence=rfs["divergence"],
        quarantine=aside,
    )


def _check_port(module: Module, cluster: Cluster, service: Checked, faults: Faults) -> None:
    """The bus listens on the same addresses as the replication."""
    port = REPLICATION_PORT_FIRST + 4 * (module.id - 1)
    if module.replication.directories and port == cluster.port:
        reason = f"the port of its replication, {port} with id {module.id}, is lans.port of"
        cure = "give it another id, or the cluster another port"
        faults.add(service.line, "id", f"{reason} cluster.xml; {cure}")


def nested(one: str, other: str) -> bool:
    """Return whether one absolute path is the other or lies below it."""
    first, second = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return first.startswith(second) or second.startswith(first)


def _replicated(element: Checked, faults: Faults) -> Replicated:
    paths: list[str] = []
    regexes: list[str] = []
    for excluded in element.all("notreplicated"):
        if ("path" in excluded.given) == ("regexpath" in excluded.given):
            faults.add(excluded.line, "notreplicated", "needs either path or regexpath")
        elif "path" in excluded.given:
            paths.append(excluded["path"])
        else:
            regexes.append(excluded["regexpath"])
    below = str(element["dir"])
    tocheck = [str(wanted["path"]) for wanted in element.all("tocheck")]
    return Replicated(
        dir=below,
        tocheck=tuple(path if path.startswith("/") else f"{below}/{path}" for path in tocheck),
        notreplicated=tuple(paths),
        notreplicated_regexes=tuple(regexes),
    )


def _processes(errd: Checked | None, faults: Faults) -> tuple[Process, ...]:
    processes: dict[str, Process] = {}
    for element in errd.all("proc") if errd is not None else []:
        process = Process(
            name=element["name"],
            nameregex=element["nameregex"],
            argregex=element["argregex"],
            process_class=element["class"],
            action=element["action"],
            atleast=element["atleast"],
            atmax=element["atmax"],
            service=element["service"],
            start_after=element["start_after"],
        )
        if not process.ident:
            faults.add(element.line, "proc", "needs one of name, nameregex, argregex")
        elif process.ident in processes:
            faults.add(element.line, "proc", f"{shown(process.ident)} is watched twice")
        processes[process.ident] = process
        _check_process(process, element.line, faults)
    return tuple(processes.values())


def _no_way_back(module: Module) -> list[str]:
    """Return what is said of `defaultprim`, with which nobody takes the role back here."""
    prim = module.defaultprim
    if prim == "alone":
        return []
    if module.mode != "mirror":
        return [f"service.defaultprim: has no effect: a {module.mode} module has no primary"]
    does = "does what alone does"
    if prim != "lastprim":
        does = f"says only that {prim} leads when both nodes wait and both have the current data"
    swap = f"to give a node the role back: mirrorfarm swap -m {module.name}"
    return [f"service.defaultprim: {prim} {does}: nobody takes the role back by itself; {swap}"]


def _unwatched(module: Module) -> list[str]:
    """Return what is said of processes that nobody will ever look at."""
    classes = WATCHED_ASIDE if module.mode == "mirror" else WATCHED
    return [
        f"proc {process.ident}: has no effect: processes of class {shown(process.process_class)} "
        f"are watched in no state of a {module.mode} module: use one of {', '.join(classes)}"
        for process in module.processes
        if process.process_class not in classes
    ] + [
        f"proc {process.ident}: has no effect: any number of it is right: set atleast or atmax"
        for process in module.processes
        if process.atleast < 1 and process.atmax < 0
    ]


def _check_process(process: Process, line: int, faults: Faults) -> None:
    if process.service and not process.name:
        faults.add(line, "proc.service", 'service="yes" needs name, that of the unit')
    if not process.service and len(process.name) > PROCESS_NAME_CHARACTERS_MAX:
        reason = "a process name has at most 15 characters in the kernel; use nameregex or argregex"
        faults.add(line, "proc.name", reason)
    name = process.name.strip()
    if name != process.name:
        faults.add(line, "proc.name", "a blank at its beginning or end: no process is called so")
    elif not process.service and name.startswith("/"):
        reason = f"{shown(name)} is a path; name the program alone: {shown(name.split('/')[-1])}"
        faults.add(line, "proc.name", reason)
    regexes = [one for one in (process.nameregex, process.argregex) if one]
    if not name and regexes and all(matches_all(re.compile(one)) for one in regexes):
        faults.add(line, "proc", f"{shown(regexes[0])!r} fits every process; say which is meant")
    if -1 < process.atmax < process.atleast:
        reason = f"{process.atmax} is below atleast {process.atleast}; no count would be right"
        faults.add(line, "proc.atmax", f"{reason} (atmax=0 forbids: then set atleast=-1)")


def _variables(user: Checked, faults: Faults) -> tuple[tuple[str, str], ...]:
    variables: dict[str, str] = {}
    for element in user.all("var"):
        name = str(element["name"])
        if not _VARIABLE.fullmatch(name):
            reason = f"{shown(name)!r} is not a name of a variable: letters, digits and _"
            faults.add(element.line, "var.name", reason)
        elif _RESERVED.fullmatch(name):
            faults.add(element.line, "var.name", f"{name} is reserved; choose another name")
        elif name in variables:
            faults.add(element.line, "var.name", f"{name} is set twice")
        variables[name] = str(element["value"])
    return tuple(variables.items())


def _arbiter(service: Checked, cluster: Cluster, faults: Faults) -> Arbiter:
    """Return who decides; left out: the only witness, or nobody where there is none."""
    element = service.first("arbiter")
    witnesses = [witness.name for witness in cluster.witnesses]
    if element is None:
        if len(witnesses) > 1:
            several = f"cluster.xml has several witnesses ({', '.join(witnesses)})"
            cure = f'write <arbiter kind="witness" name="{witnesses[0]}"/>, or another of them'
            faults.add(service.line, "service/arbiter", f"{several}: {cure}")
        return Arbiter("witness", witnesses[0]) if witnesses else Arbiter("none")
    kind, name, addresses = element["kind"], str(element["name"]), element["addr"]
    if kind == "witness" and not name and len(witnesses) == 1:
        name = witnesses[0]
    if kind == "witness" and name not in witnesses:
        known = ", ".join(witnesses) or "none; add <witness name= addr=/> to it"
        reason = f"{name or 'the witness'} is not in cluster.xml, which has: {known}"
        faults.add(element.line, "arbiter.name", reason)
    if kind != "witness" and name:
        faults.add(element.line, "arbiter.name", 'only with kind="witness"')
    if (kind == "ping") != bool(addresses) or len(addresses) > ADDRESSES_MAX:
        reason = 'kind="ping", and only that, needs addr="…", one address or more'
        faults.add(element.line, "arbiter.addr", reason)
    return Arbiter(kind, name, addresses)
