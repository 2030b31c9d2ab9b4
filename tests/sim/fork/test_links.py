"""Of messages that did not come: whether a link was cut, and when."""

from mirrorfarm.sim.fork.links import SAMPLES_MAX, Cut, Links, Samples, Start

MS = 1_000_000
ALWAYS = {(name, "app"): [Start(1, 0, 10**12)] for name in ("n1", "n2")}
WITNESS = {("w", "witness"): [Start(1, 0, 10**12)]}


def send(
    links: Links, way: str, number: int, at_ms: int, *, comes: bool, network: str = ""
) -> None:
    source, to = way.split()
    message = (source, 1, number)
    links.sent(message, to, "witness" if to == "w" else "app", at_ms * MS, network)
    if comes:
        links.received(message, to, at_ms * MS + 2 * MS)


def test_three_lost_in_a_row_are_a_cut_and_fewer_are_loss() -> None:
    links = Links()
    for number in range(100):
        lost = number in {10, 50, 51, 52}
        send(links, "n1 n2", number, 100 + number, comes=not lost)
    found = links.judge(ALWAYS, {})
    assert found.cuts == [Cut("n1", "n2", 150 * MS, 153 * MS)]
    assert found.losses == {("n1", "n2"): 10}
    assert list(found.delays["n1", "n2"].values) == [2 * MS] * 96


def test_what_waited_for_its_receiver_or_for_a_cable_says_nothing_of_the_link() -> None:
    links = Links()
    for number in range(100):
        links.sent(("n1", 1, number), "n2", "app", (100 + 10 * number) * MS)
        late = 900 - 10 * (number - 20) if 20 <= number < 90 else 2
        links.received(("n1", 1, number), "n2", (100 + 10 * number + late) * MS)
    found = links.judge(ALWAYS, {"n2": [(300 * MS, 1_200 * MS)]})
    assert (found.cuts, set(found.delays["n1", "n2"].values)) == ([], {2 * MS})
    found = links.judge(ALWAYS, {})
    assert found.cuts == [Cut("n1", "n2", 300 * MS, 710 * MS)]  # Nothing for half a second.


def test_nobody_is_cut_off_who_was_not_there() -> None:
    links = Links()
    for number in range(100):
        send(links, "n1 n2", number, 100 + number, comes=number >= 50)
    found = links.judge({("n2", "app"): [Start(1, 150 * MS, 10**12)]}, {})
    assert (found.cuts, found.losses) == ([], {("n1", "n2"): 0})


def test_a_link_that_is_used_rarely_was_cut_together_with_its_neighbour() -> None:
    links = Links()
    for number in range(300):  # One each millisecond, cut from 200 to 300 ms.
        send(links, "n1 n2", number, 100 + number, comes=not 100 <= number < 200)
    for number in range(7):  # One each 30 ms.
        at_ms = 150 + 30 * number
        send(links, "n1 w", 1_000 + number, at_ms, comes=not 200 <= at_ms < 300)
    assert sorted(links.judge(ALWAYS | WITNESS, {}).cuts) == [
        Cut("n1", "n2", 200 * MS, 300 * MS),
        Cut("n1", "w", 200 * MS, 300 * MS),
    ]


def test_a_cut_may_last_to_the_end() -> None:
    links = Links()
    for number in range(10):
        send(links, "n1 n2", number, 100 + number, comes=number < 5)
    assert links.judge(ALWAYS, {}).cuts == [Cut("n1", "n2", 105 * MS, 0)]


def test_of_messages_of_one_step_some_may_come_and_others_not() -> None:
    """One network is cut before the other one, and both are mended within a step."""
    links = Links()
    for number in range(20):
        at_ms, second = 100 + 10 * (number // 2), number % 2
        comes = at_ms < 140 or at_ms > 170
        comes = comes or (at_ms == 140 and not second) or (at_ms == 170 and bool(second))
        send(links, "n1 n2", number, at_ms, comes=comes)
    assert links.judge(ALWAYS, {}).cuts == [Cut("n1", "n2", 140 * MS, 170 * MS)]


def test_a_network_of_several_is_cut_alone_and_that_is_no_loss() -> None:
    links = Links()
    for number in range(200):
        at_ms, name = 100 + 10 * (number // 2), ("red", "green")[number % 2]
        comes = not 300 <= at_ms < 400 and not (name == "green" and at_ms >= 600)
        send(links, "n1 n2", number, at_ms, comes=comes and number != 20, network=name)
    found = links.judge(ALWAYS, {})
    assert found.cuts == [
        Cut("n1", "n2", 300 * MS, 400 * MS),
        Cut("n1", "n2", 600 * MS, 0, "green"),
    ]
    assert found.network_losses == {("n1", "n2", "red"): 10, ("n1", "n2", "green"): 0}
    assert found.losses == {("n1", "n2"): 0}


def test_of_many_delays_some_are_kept() -> None:
    samples = Samples()
    for value in range(10 * SAMPLES_MAX):
        samples.add(value)
    assert SAMPLES_MAX // 2 <= len(samples.values) <= SAMPLES_MAX
    assert max(samples.values) > 9 * SAMPLES_MAX
