"""`mirrorfarm cluster`: make a cluster, join it, look at it."""

import hashlib
from pathlib import Path
from typing import Any

import click

from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.show import as_json, table

FINGERPRINT_DIGITS = 16


@click.group("cluster")
def cluster() -> None:
    """Make a cluster, join it, look at it."""


@cluster.command("init")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--node", required=True, help="Which node of FILE this machine is.")
@click.option(
    "--bundles",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the secret join bundles of the other machines.",
)
@click.pass_obj
def init(scope: Scope, file: Path, node: str, bundles: Path) -> int:
    """Make a cluster from FILE (cluster.xml) and let this machine be one of its nodes.

    Writes NAME.join for every other node and witness: carry each to its machine by a safe way,
    join there, and delete it.
    """
    from mirrorfarm.modules.cluster import parse_cluster
    from mirrorfarm.modules.xml import XML_BYTES_MAX
    from mirrorfarm.transport.keys import create_cluster

    with file.open("rb") as stream:
        data = stream.read(XML_BYTES_MAX + 1)  # What is longer is refused, however long it is.
    notes: list[str] = []
    parsed = parse_cluster(data, str(file), notes=notes)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    witnesses = [witness.name for witness in parsed.witnesses]
    text = data.decode("utf-8")
    create_cluster(text, parsed.nodes, witnesses, node, scope.paths, bundles)
    others = [name for name in (*parsed.nodes, *witnesses) if name != node]
    click.echo(f"{node} is a node of the new cluster. Now, on each other machine:")
    for name in others:
        click.echo(f"  {name}: mirrorfarm cluster join {name}.join     (from {bundles})")
    return 0


@cluster.command("join")
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def join(scope: Scope, bundle: Path) -> int:
    """Let this machine be the node or witness that BUNDLE was made for."""
    from mirrorfarm.transport.keys import join_cluster

    keys = join_cluster(bundle, scope.paths)
    click.echo(f"this machine is {keys.name} of cluster {keys.cluster}; delete {bundle} now")
    return 0


def fingerprint(key: str) -> str:
    """Return a short digest of a public key, to be compared by a person."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:FINGERPRINT_DIGITS]
    return ":".join(digest[i : i + 4] for i in range(0, FINGERPRINT_DIGITS, 4))


@cluster.command("show")
@click.option("--json", "json_wanted", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show(scope: Scope, json_wanted: bool) -> int:
    """Show the nodes, networks, witnesses, and the fingerprints of their keys."""
    from mirrorfarm.modules.install import load_cluster
    from mirrorfarm.transport.keys import load_keys

    parsed, keys = load_cluster(scope.paths), load_keys(scope.paths)
    public = {**keys.peers, keys.name: keys.public}
    rows: list[dict[str, Any]] = []
    for name in parsed.nodes:
        ends = {
            network.name: node.addr
            for network in parsed.networks
            for node in network.nodes
            if node.name == name
        }
        rows.append({"name": name, "kind": "node", "addresses": ends})
    for witness in parsed.witnesses:
        end = {"witness": f"{witness.addr} port {witness.port}"}
        rows.append({"name": witness.name, "kind": "witness", "addresses": end})
    for row in rows:
        row["fingerprint"] = (
            fingerprint(public.get(row["name"], "")) if row["name"] in public else ""
        )
        row["here"] = row["name"] == keys.name
    if json_wanted:
        click.echo(as_json({"cluster": keys.cluster, "port": parsed.port, "machines": rows}))
        return 0
    click.echo(f"cluster {keys.cluster}, port {parsed.port}; this machine is {keys.name}")
    ends_text = [", ".join(f"{k} {v}" for k, v in row["addresses"].items()) for row in rows]
    cells = [
        (row["name"], row["kind"], ends, row["fingerprint"] or "no key: make the cluster anew")
        for row, ends in zip(rows, ends_text, strict=True)
    ]
    table(("name", "kind", "addresses", "key"), cells)
    return 0
