from mirrorfarm.actors.vip.cables import IN_NS, OUT_NS, Steady, without_cable


def test_an_interface_that_is_not_there_has_no_cable_and_the_loopback_has() -> None:
    assert without_cable(("lo", "absent0")) == ("absent0",)


def test_a_cable_that_is_out_for_a_moment_is_not_told() -> None:
    cables = Steady()
    assert not cables.notice(("eth0",), 0)
    assert not cables.notice((), OUT_NS - 1)
    assert not cables.notice((), OUT_NS + IN_NS)
    assert cables.told == ()


def test_a_cable_that_stays_out_is_told_once_and_so_is_its_return_once_it_lasts() -> None:
    cables = Steady()
    told = [cables.notice(("eth0",), at) for at in (0, OUT_NS, OUT_NS + 1)]
    assert (told, cables.told) == ([False, True, False], ("eth0",))
    back = 10 * OUT_NS
    for at in (back, back + IN_NS - 1):
        assert not cables.notice((), at)
    assert not cables.notice(("eth0",), back + IN_NS)  # A loose contact.
    assert not cables.notice((), back + IN_NS + 1)
    assert cables.notice((), back + 2 * IN_NS + 1)
    assert cables.told == ()
