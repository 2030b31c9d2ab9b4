"""Machines, links and processes of a simulation as a recording has them at its fork."""

from typing import Any, Final

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors.events import Started
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.engine import Clocks, Draws
from mirrorfarm.sim.fork.models import SeenNetwork, SeenQuality
from mirrorfarm.sim.fork.recording import Recording, Running
from mirrorfarm.sim.fork.settings import retimed
from mirrorfarm.sim.host import Host, Process

FORK_NS: Final = 6 * SECOND_NS  # When the fork is, in virtual time: planes are made before.


def network_of(world: Any, names: tuple[str, ...]) -> SeenNetwork:
    """Return links that take as long as the recorded ones."""
    recording: Recording = world.recording
    network = SeenNetwork(world, Draws(world.seed, "network"))
    network.names = names
    for (source, to), seen in recording.delays.items():
        if seen.values:
            every = recording.losses.get((source, to), 0)
            for name in names:
                loss = recording.network_losses.get((source, to, name), every)
                network.qualities[name, source, to] = SeenQuality(loss=loss, seen=seen)
    return network


def host_of(world: Any, recording: Recording, name: str) -> Host:
    """Return a new machine whose clocks show at the fork what the recorded ones did."""
    machine = recording.machines.get(name)
    host: Host = world.machine(name)
    if machine is not None:
        late = FORK_NS + FORK_NS * machine.fast_millionths // 1_000_000
        boot, day = machine.boot_ns - late, machine.day_ns - late
        host.clocks = Clocks(boot, day, machine.fast_millionths)
        host.incarnation, host.first_boot_id = machine.incarnation, machine.boot_id
    return host


def resume(process: Process, running: Running) -> None:
    """Put in what a process waits for."""
    waiting, now = running.waiting, process.host.clocks.boot(process.host.engine.now)
    for actor, timer in waiting.due():
        found = process.actors.get(actor)
        if found is not None:
            timer_now = retimed(actor, timer, found.core, now)
            process.later(found, timer_now.at_ns, timer_now.event)
    for actor in running.unstarted:
        process.actors[actor].give(Started())
    for actor, event in waiting.inboxes():
        if actor in process.actors:
            process.actors[actor].give(event)
    for order in waiting.orders.values():
        if not isinstance(order.effect, fx.PlaneOrder):
            _perform(process, order.actor, order.effect)
    deadline_ns = waiting.doors.guard_ns
    if deadline_ns and "guard" in process.actors:
        _perform(process, "guard", fx.GuardOrder(deadline_ns))


def _perform(process: Process, actor: str, effect: fx.Effect) -> None:
    """Have a door do what a core had asked for."""
    process.doors[type(effect)](process.actors[actor], effect)


def arrive(world: Any, recording: Recording) -> None:
    """Have the messages that were under way arrive when they did."""
    for arrival in recording.arrivals:
        host = world.hosts[arrival.name[0]]
        when = FORK_NS + arrival.at_ns - recording.at_ns
        world.at(when, world._local, host, arrival.name[1], arrival.actor, arrival.event)
