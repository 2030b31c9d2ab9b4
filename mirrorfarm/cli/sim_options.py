"""The options that several commands of the simulator have."""

from pathlib import Path

import click

played = click.option(
    "--options",
    default="swarm",
    show_default=True,
    help="What is played. swarm: all drawn from the seed; mirror-swarm, farm-swarm: likewise, of "
    "that kind; modules-swarm: as mirror-swarm, with several modules; mirror, farm: short and "
    "dense. After a comma, for a swarm minutes=N, for a dense mirror keys of a scenario's mirror, "
    "as in mirror,modules=2,ack_mode=received.",
)

traced = click.option(
    "--trace",
    type=click.Path(file_okay=False, path_type=Path),
    help="Record the run in this folder, as production records: for `mirrorfarm trace`.",
)
