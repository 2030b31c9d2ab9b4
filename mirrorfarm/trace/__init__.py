"""Read the traces of cores, wherever they were recorded: steps, typed again, and replay.

for step in read_steps([Path("/var/log/mirrorfarm")]):
    print(step.node, step.actor, step.now_ns, step.event, step.effects)
"""

from mirrorfarm.trace.steps import Step, read_steps

__all__ = ("Step", "read_steps")
