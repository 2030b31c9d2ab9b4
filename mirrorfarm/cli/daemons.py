"""`mirrorfarm agent` and `mirrorfarm witness`: what systemd starts."""

import click


@click.command("agent")
def agent() -> int:
    """Run the agent of this node, until it is told to end (SIGTERM)."""
    from mirrorfarm.node import main

    return main() or 0


@click.command("witness")
def witness() -> int:
    """Run the witness on this third machine, until it is told to end (SIGTERM)."""
    from mirrorfarm.actors.arbiter.process import main

    return main() or 0
