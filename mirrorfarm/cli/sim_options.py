"""The option of all commands that play seeds."""

import click

played = click.option(
    "--options",
    default="swarm",
    show_default=True,
    help="What is played. swarm: all drawn from the seed; mirror-swarm, farm-swarm: likewise, of "
    "that kind; mirror, farm: short and dense. After a comma, for a swarm minutes=N, for a dense "
    "mirror keys of a scenario's mirror, as in mirror,ack_mode=received.",
)
