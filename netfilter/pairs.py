"""Which nodes frames do not pass between, in few words however many pairs of nodes it concerns."""

from collections.abc import Iterable

from mirrorfarm.netfilter.finding import listed, named

Pair = tuple[str, str]  # Sender, receiver.
PHRASES_MAX = 6  # A network that loses at random is not told pair by pair.


def not_reached(
    pairs: Iterable[Pair], senders: tuple[str, ...], receivers: tuple[str, ...] = ()
) -> str:
    """Return who does not reach whom. `receivers`: if not the same nodes as the senders."""
    left, receivers = set(pairs), receivers or senders
    mute = [a for a in senders if all((a, b) in left for b in receivers if a != b)]
    deaf = [b for b in receivers if all((a, b) in left for a in senders if a != b)]
    if len(mute) == len(senders):
        return "no node reaches another"
    apart = [node for node in mute if node in deaf]
    told = []
    if len(apart) == 1:
        told.append(f"{apart[0]} and the others do not reach each other")
    elif apart:
        told.append(f"{listed(apart)} reach no node and are reached by none")
    if unheard := [node for node in deaf if node not in apart]:
        told.append(f"no node reaches {listed(unheard, 'or')}")
    heard = [node for node in receivers if node not in deaf]
    if silent := [a for a in mute if a not in apart and any(b != a for b in heard)]:
        told.append(f"{listed(silent)} {'reach' if len(silent) > 1 else 'reaches'} no node")
    groups = _groups({p for p in left if p[0] not in mute and p[1] not in deaf}, senders, receivers)
    for of, to in list(groups.items()):
        if of not in groups:
            continue
        if groups.get(to) == of:
            del groups[to]
            told.append(_apart(of, to, senders))
        else:
            told.append(_one_way(of, to, senders))
    return _shortened(told)


def between(pairs: Iterable[Pair], nodes: tuple[str, ...]) -> list[Pair]:
    """Return the words for senders and receivers of pairs, equal ones together."""
    wanted = set(pairs)
    full = [b for b in nodes if all((a, b) in wanted for a in nodes if a != b)]
    if len(full) == len(nodes):
        return [("every node", "every other node")]
    found = [("every other node", named(full, nodes))] if full else []
    for of, to in _groups({p for p in wanted if p[1] not in full}, nodes, nodes).items():
        others = [node for node in nodes if node not in of]
        words = "every other node" if len(of) == 1 and list(to) == others else named(to, nodes)
        found.append((named(of, nodes), words))
    return found


def between_in_words(pairs: Iterable[Pair], nodes: tuple[str, ...]) -> str:
    """Return pairs of senders and receivers as a sentence has them."""
    return _shortened([f"{of} to {to}" for of, to in between(pairs, nodes)])


def _groups(
    pairs: set[Pair], senders: tuple[str, ...], receivers: tuple[str, ...]
) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return pairs as senders -> the receivers that have exactly these."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for b in receivers:
        if of := tuple(a for a in senders if (a, b) in pairs):
            found[of] = (*found.get(of, ()), b)
    return found


def _apart(some: tuple[str, ...], others: tuple[str, ...], nodes: tuple[str, ...]) -> str:
    few, many = sorted((some, others), key=lambda side: (len(side), nodes.index(side[0])))
    if len(many) == 1:
        return f"{few[0]} and {many[0]} do not reach each other"
    rest = "the others" if len(few) + len(many) == len(nodes) else listed(many)
    return f"nothing passes between {listed(few)} on one side and {rest} on the other"


def _one_way(of: tuple[str, ...], to: tuple[str, ...], senders: tuple[str, ...]) -> str:
    reaching = [a for a in senders if a not in of and a not in to]
    if len(to) == 1 and 0 < len(reaching) < len(of):
        return f"only {listed(reaching)} {'reach' if len(reaching) > 1 else 'reaches'} {to[0]}"
    does = "do" if len(of) > 1 else "does"
    return f"{named(of, senders)} {does} not reach {listed(to, 'or')}"


def _shortened(phrases: list[str]) -> str:
    more = len(phrases) - PHRASES_MAX
    told = phrases[:PHRASES_MAX]
    return ", ".join([*told, f"and {more} more (--json has them all)"] if more > 0 else told)
