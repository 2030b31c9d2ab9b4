"""Read the traces of cores, wherever they were recorded: steps, typed again, and replay.

from mirrorfarm.trace.steps import read_steps

for step in read_steps([Path("/var/log/mirrorfarm")]):
    print(step.node, step.actor, step.now_ns, step.event, step.effects)
"""
