"""What is said of a userconfig.xml that is good, and does not do all that it says."""

import pytest

from tests.modules.test_userconfig import HEART, parsed, service


def test_what_the_reference_product_does_by_itself_and_nobody_here_is_noted() -> None:
    def noted(prim: str) -> list[str]:
        notes: list[str] = []
        parsed(service(HEART, f'defaultprim="{prim}"'), notes=notes)
        return notes

    assert noted("alone") == []
    (note,) = noted("lastprim")
    assert note.startswith("service.defaultprim: lastprim does what alone does: nobody takes")
    notes: list[str] = []
    parsed('<safe><service mode="light" defaultprim="n1"/></safe>', notes=notes)
    assert notes == ["service.defaultprim: has no effect: a light module has no primary"]


@pytest.mark.parametrize(
    ("mode", "inner", "noted"),
    [("mirror", HEART, ["mine"]), ("light", "", ["second", "sec", "mine"])],
)
def test_a_process_that_nobody_will_watch_is_noted(mode: str, inner: str, noted: list[str]) -> None:
    classes = ("prim", "second", "sec", "both", "pre", "mine")
    procs = "".join(f'<proc name="{one}d" class="{one}"/>' for one in classes)
    notes: list[str] = []
    text = service(f"{inner}<errd>{procs}</errd><user/>").replace('"mirror"', f'"{mode}"')
    parsed(text, notes=notes)
    assert [note.split(" of class ")[1].split()[0] for note in notes] == noted
    assert notes[0].startswith(f"proc {noted[0]}d: has no effect: processes of class {noted[0]}")


def test_a_process_of_which_any_number_is_right_is_noted() -> None:
    counts = ('atleast="0"', 'atleast="-1"', 'atleast="-1" atmax="0"', 'atleast="0" atmax="3"')
    procs = "".join(f'<proc name="d{at}" {given}/>' for at, given in enumerate(counts))
    notes: list[str] = []
    parsed(service(f"{HEART}<errd>{procs}</errd><user/>"), notes=notes)
    assert notes == [
        f"proc {name}: has no effect: any number of it is right: set atleast or atmax"
        for name in ("d0", "d1")
    ]


def test_a_delay_at_boot_is_read_and_noted() -> None:
    notes: list[str] = []
    assert parsed(service(HEART, 'boot="on" boot_delay="30"'), notes=notes).boot == "on"
    assert notes == [
        "u.xml:1: service.boot_delay: has no effect: modules start with the agent: "
        "delay mirrorfarm.service"
    ]


def test_a_mask_that_no_address_of_a_farm_has_is_noted() -> None:
    notes: list[str] = []
    text = """<safe><service mode="farm"><farm><lan name="default"/></farm><vip>
<interface_list><interface><virtual_interface>
<virtual_addr addr="198.18.0.100" netmask="255.255.255.0"/>
</virtual_interface></interface></interface_list><loadbalancing_list>
<group name="web"><rule proto="tcp" filter="on_addr"/></group></loadbalancing_list></vip>
</service></safe>"""
    module = parsed(text, notes=notes)
    assert module.farm.virtual_addresses[0].prefix == 0
    assert notes == [
        "u.xml:3: virtual_addr.netmask: has no effect: each address stands alone on lo (/32, /128)"
    ]
