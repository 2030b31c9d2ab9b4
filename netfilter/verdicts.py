"""What a check of a farm's network found, in words an administrator can act upon.

Pure: reports of the nodes in, verdicts out. A verdict is about one thing and names every node it
is true for. What could not be seen is called so and never guessed.
"""

from mirrorfarm.netfilter.finding import Check, Verdict
from mirrorfarm.netfilter.finding_delivery import delivery
from mirrorfarm.netfilter.finding_network import floods, heartbeats, sizes, trips
from mirrorfarm.netfilter.finding_nodes import filters, nodes, parameters
from mirrorfarm.netfilter.finding_owners import announcements, owners


def evaluate(check: Check) -> list[Verdict]:
    """Return every verdict, in the order in which somebody would look."""
    found = nodes(check)
    if not check.present:
        return found
    for segment in check.segments():
        if len(check.places(segment)) > 1:
            found += delivery(check, segment)
            found += floods(check, segment)
            found += announcements(check, segment)
        found += owners(check, segment)
        if len(check.places(segment)) > 1:
            found += sizes(check, segment)
            found += trips(check, segment)
    return [*found, *heartbeats(check), *parameters(check), *filters(check)]
