"""`mirrorfarm module`: install, configure, list and remove modules, here or on other nodes."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from mirrorfarm.cli.main import Scope, fail
from mirrorfarm.cli.show import as_json, clean, table
from mirrorfarm.errors import MirrorfarmError, NodeUnreachable, Refused
from mirrorfarm.limits import MODULES_MAX
from mirrorfarm.transport.messages import AgentResult

AGENT_SECONDS = 30.0
IDS_SECONDS = 3.0  # For the agents to list their modules.


@click.group("module")
def module() -> None:
    """Install, configure, list and remove modules. Each answers within 33 seconds per node."""


def tell_agents(scope: Scope, verb: str, arguments: tuple[str, ...], package: bytes = b"") -> int:
    """Give an order to the agents of the chosen nodes; return the worst exit code."""
    return each_agent(
        scope,
        verb,
        arguments,
        package,
        lambda node, result: click.echo(f"{node}: {clean(result.text)}"),
    )


def each_agent(
    scope: Scope,
    verb: str,
    arguments: tuple[str, ...],
    package: bytes,
    use: Callable[[str, AgentResult], None],
) -> int:
    """Ask every chosen agent, hand each result to `use`; return the worst exit code."""
    from mirrorfarm.cli.client import Client, resolve_nodes

    worst = 0
    with Client(scope.paths) as client:
        for node in resolve_nodes(scope.paths, scope.hosts, client.node):
            try:
                use(
                    node,
                    client.agent(node, verb, arguments, package=package, seconds=AGENT_SECONDS),
                )
            except MirrorfarmError as error:
                worst = max(worst, fail(f"{node}: {error}", error.exit_code))
    return worst


@module.command("install")
@click.argument("name")
@click.option(
    *("--from", "source"),
    default="",
    help="A template's name, a folder or a .safe file; default: the template NAME.",
)
@click.option(
    *("--id", "number"),
    type=click.IntRange(1, MODULES_MAX),
    help="The module's number; default: the smallest that is free on all these nodes.",
)
@click.option("--force", is_flag=True, help="Replace an installed module.")
@click.pass_obj
def install(scope: Scope, name: str, source: str, number: int | None, force: bool) -> int:
    """Install module NAME. Its id must be the same on both nodes: with -H it is."""
    from mirrorfarm.cli.client import agent_runs
    from mirrorfarm.modules import install as door

    origin: str | Path = source or name
    if source and Path(source).exists():
        origin = Path(source).absolute()
    renumbered = not scope.hosts and force and door.changes_id(scope.paths, name, number)
    if not scope.hosts and not (renumbered and agent_runs(scope.paths)):
        if renumbered:
            require_ended(scope, name)
        number = door.install(scope.paths, name, source=origin, module_id=number, force=force)
        click.echo(f"module {name} is installed with id {number}")
        click.echo(f"edit {scope.paths.module_etc(name) / 'conf/userconfig.xml'}")
        click.echo(f"then: mirrorfarm module config {name}")
        return 0
    package = packed(name, origin)
    worst = 0
    if number is None:
        from mirrorfarm.cli.module_ids import common_id

        installed, worst = installed_on(scope)
        if not installed:
            return worst
        number = common_id(name, installed)
        scope = Scope(scope.paths, ",".join(installed))
    arguments = (name, str(number), "force" if force else "")
    return max(worst, tell_agents(scope, "install", arguments, package))


def installed_on(scope: Scope) -> tuple[dict[str, dict[str, int]], int]:
    """Return the modules and their ids of the chosen nodes, and the worst exit code.

    A node that is silent is told, and left out: nobody knows which ids are free there.
    """
    from mirrorfarm.cli.client import Client, resolve_nodes

    with Client(scope.paths) as client:
        nodes = resolve_nodes(scope.paths, scope.hosts, client.node)
        installed = client.installed(nodes, IDS_SECONDS)
    worst = 0
    for node in nodes:
        if node not in installed:
            text = "its agent does not tell which modules it has, so nothing is installed there"
            cure = "see whether it runs and its cables are in, then repeat this"
            worst = fail(f"{node}: {text}: {cure}", NodeUnreachable.exit_code)
    return installed, worst


def require_no_process(scope: Scope, name: str) -> None:
    """Raise Refused if a module runs here although the agent, which alone can ask it, does not."""
    from mirrorfarm.process import lock_holder, lock_path, replica_lock_path

    locks = (lock_path(scope.paths, name), replica_lock_path(scope.paths, name))
    pid = next(filter(None, map(lock_holder, locks)), 0)
    if pid:
        raise Refused(
            f"module {name} runs here as process {pid}, and only the agent, which does not run, "
            "can ask whether it is stopped: start it (`systemctl start mirrorfarm`, or "
            "`mirrorfarm agent` by hand), then repeat this"
        )


def require_ended(scope: Scope, name: str) -> None:
    """Raise Refused if something of a module goes on here without its process and the agent."""
    from mirrorfarm import leftovers
    from mirrorfarm.transport.keys import KEY_FILE, load_keys

    require_no_process(scope, name)
    if (scope.paths.keys / KEY_FILE).exists():  # Else nothing has ever run here.
        node = load_keys(scope.paths).name
        leftovers.require_none(scope.paths, node, name, "it has no process, nor is there an agent")


def packed(name: str, origin: str | Path) -> bytes:
    """Return a package made from a source, for other nodes."""
    import tempfile

    from mirrorfarm.modules import install as door
    from mirrorfarm.paths import Paths

    with tempfile.TemporaryDirectory() as folder:
        scratch = Paths(Path(folder))
        door.install(scratch, name, source=origin)
        return door.package(scratch, name)


@module.command("config")
@click.argument("name")
@click.pass_obj
def config(scope: Scope, name: str) -> int:
    """Check the configuration of NAME and make it the active one."""
    from mirrorfarm.cli.client import agent_runs
    from mirrorfarm.modules import install as door

    if scope.hosts or agent_runs(scope.paths):
        worst = tell_agents(scope, "config", (name,))
        with suppress(MirrorfarmError):  # What is configured is: nobody could be asked.
            note_other_ids(scope, name)
        return worst
    require_no_process(scope, name)
    notes: list[str] = []
    door.configure(scope.paths, name, notes=notes)
    for note in notes:
        click.echo(f"note: {clean(note)}", err=True)
    click.echo(f"module {name} is configured; it starts with the agent: mirrorfarm agent")
    return 0


def note_other_ids(scope: Scope, name: str) -> None:
    """Tell if nodes of a mirror, as far as they answer, have it with different ids."""
    from mirrorfarm.cli.client import Client
    from mirrorfarm.cli.module_ids import disagreement
    from mirrorfarm.modules import install as door

    nodes = door.load_cluster(scope.paths).nodes
    with suppress(MirrorfarmError, OSError):  # It may be that only the chosen nodes have it.
        found = door.load_module(scope.paths, name)
        nodes = found.nodes if found.mode == "mirror" else ()
    with Client(scope.paths) as client:
        installed = client.installed(nodes, IDS_SECONDS)
    text = disagreement(name, installed, str(scope.paths.module_etc(name)))
    if text:
        click.echo(f"note: {clean(text)}", err=True)


@module.command("deconfig")
@click.argument("name")
@click.pass_obj
def deconfig(scope: Scope, name: str) -> int:
    """Undo the configuration of a stopped module; its files and data stay.

    Refused while its application or a virtual address is left here, whatever its process does.
    """
    from mirrorfarm.cli.client import agent_runs
    from mirrorfarm.modules import install as door

    if scope.hosts or agent_runs(scope.paths):
        return tell_agents(scope, "deconfig", (name,))
    from mirrorfarm import leftovers

    require_ended(scope, name)
    leftovers.clear(scope.paths, name)
    door.deconfigure(scope.paths, name)
    click.echo(f"module {name} is not configured any more")
    return 0


@module.command("uninstall")
@click.argument("name")
@click.pass_obj
def uninstall(scope: Scope, name: str) -> int:
    """Remove module NAME; its files are kept as the previous version."""
    from mirrorfarm.cli.client import agent_runs
    from mirrorfarm.modules import install as door

    if scope.hosts or agent_runs(scope.paths):
        return tell_agents(scope, "uninstall", (name,))
    require_ended(scope, name)
    door.uninstall(scope.paths, name)
    click.echo(f"module {name} is removed")
    return 0


@module.command("list")
@click.option("--json", "json_wanted", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def list_modules(scope: Scope, json_wanted: bool) -> int:
    """List the installed modules; of this node also while the agent is down."""
    from mirrorfarm.cli.client import agent_runs
    from mirrorfarm.modules import install as door

    rows: list[dict[str, object]] = []

    def take(node: str, result: AgentResult) -> None:
        rows.extend({"node": node, **entry} for entry in msgspec.json.decode(result.json))

    worst = 0
    if scope.hosts or agent_runs(scope.paths):
        worst = each_agent(scope, "modules", (), b"", take)
    else:
        active = door.configured(scope.paths)
        for name, number, fault in door.listed(scope.paths):
            row = {"node": "", "module": name, "id": number, "configured": name in active}
            rows.append({**row, "trouble": fault})
    if json_wanted:
        click.echo(as_json(rows))
        return worst
    cells = [
        (
            str(row.get("module", "")),
            str(row.get("id") or ""),
            str(row["node"]) or "this node",
            "configured" if row.get("configured") else "not configured",
            str(row.get("trouble") or ""),
        )
        for row in rows
    ]
    table(("module", "id", "node", "", "trouble"), cells)
    return worst
