"""The options that several commands of the simulator have."""

import os
from pathlib import Path

import click

WORKERS_MAX = 4_096

played = click.option(
    "--options",
    default="swarm",
    show_default=True,
    help="What is played. swarm: all drawn from the seed; mirror-swarm, farm-swarm: likewise, of "
    "that kind; modules-swarm: as mirror-swarm, with several modules; mirror, farm: short and "
    "dense. After a comma, for a swarm minutes=N, for a dense mirror keys of a scenario's mirror, "
    "as in mirror,modules=2,ack_mode=received.",
)


workers_option = click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    help="Seeds played at the same time.  [default: processors of this machine]",
)


def workers_or_all(workers: int | None) -> int:
    """Return how many are meant: as many as this process may use processors, if none are named."""
    return workers or len(os.sched_getaffinity(0))


traced = click.option(
    "--trace",
    type=click.Path(file_okay=False, path_type=Path),
    help="Record the run in this folder, as production records: for `mirrorfarm trace`.",
)
