"""`mirrorfarm sim`: a whole cluster in one thread, from a seed."""

from pathlib import Path

import click

from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.sim_options import played, traced
from mirrorfarm.cli.sim_scenario import scenario, seed_number, shrink
from mirrorfarm.cli.sim_sweep import report, sweep
from mirrorfarm.errors import SystemUnsuitable


@click.group("sim")
@click.pass_obj
def sim(scope: Scope) -> None:
    """Simulate clusters with the cores of production; nothing on this machine is touched."""
    if scope.hosts:
        raise click.UsageError(
            f"-H {scope.hosts}: simulations run on this machine: call it there, without -H"
        )
    if not __debug__:  # What breaks one would count as a run that went well.
        raise SystemUnsuitable(
            "nothing is simulated without the assertions of the cores: leave out -O of python, "
            "and PYTHONOPTIMIZE"
        )


@sim.command("run")
@click.option("--seed", required=True, metavar="NUMBER", help="64 bits, as 0x5eed or 24301.")
@played
@traced
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def run(seed: str, options: str, trace: Path | None, as_json: bool) -> int:
    """Run one seed: faults under which no invariant may break, then all must work again.

    Prints the options that the seed makes, what came out, and a digest of every step: the same
    seed and build give the same digest on every machine. Exit code 1: an invariant broke.
    """
    import msgspec

    from mirrorfarm.sim import running

    got = running.run(seed_number(seed), options, trace)
    if as_json:
        click.echo(msgspec.json.encode(got).decode())
        return int(got.outcome != "ok")
    edge = f"seed {got.seed:#x} build {got.build}"
    click.echo(edge)
    click.echo(f"options: {got.described}")
    faults = " ".join(f"{name}={count}" for name, count in got.faults.items())
    click.echo(f"faults injected: {faults or 'none'}")
    if got.bugs:
        click.echo("tricks: " + " ".join(f"{name}={count}" for name, count in got.bugs.items()))
    click.echo(f"simulated: {got.simulated_s:.1f} s in {got.steps} steps, {got.cpu_s:.2f} s of CPU")
    click.echo(f"outcome: {got.outcome}")
    for line in got.story:
        click.echo(f"    {line}")
    click.echo(f"digest: {got.digest}")
    click.echo(f"again: {got.command}")
    click.echo(edge)
    return int(got.outcome != "ok")


sim.add_command(scenario)
sim.add_command(shrink)
sim.add_command(sweep)
sim.add_command(report)
