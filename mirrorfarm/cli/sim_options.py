"""The options that several commands of the simulator have."""

import math
import os
from pathlib import Path
from typing import Any

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


class Number(click.FloatRange):
    """A number of a range; `nan` is none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


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
