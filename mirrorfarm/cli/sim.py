"""`mirrorfarm sim`: a whole cluster in one thread, from a seed."""

import click

from mirrorfarm.cli.sim_sweep import report, sweep


@click.group("sim")
def sim() -> None:
    """Play a whole cluster in one thread, from a seed."""


sim.add_command(sweep)
sim.add_command(report)
