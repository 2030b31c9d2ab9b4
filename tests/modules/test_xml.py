"""What the reader of XML refuses, and that nothing else ever comes out of it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.modules.faults import Faults
from mirrorfarm.modules.xml import ATTRIBUTES_MAX, ELEMENTS_MAX, XML_BYTES_MAX, Tree, parse


def faults_of(text: bytes) -> list[str]:
    faults = Faults("f.xml")
    tree = parse(text, faults)
    assert (tree is None) == bool(len(faults))
    return [fault for _, fault in faults.found]


def test_elements_keep_their_line_and_comments_vanish() -> None:
    faults = Faults("f.xml")
    tree = parse(b'<!DOCTYPE safe>\n<safe>\n<!-- no -->\n<a b="1"/>\n</safe>', faults)
    assert tree == Tree("safe", 2, (), (Tree("a", 4, (("b", "1"),), ()),))
    assert not len(faults)


def test_entities_and_external_ids_never_reach_the_parser() -> None:
    bombs = [
        b'<!DOCTYPE safe [<!ENTITY a "aaaa">]><safe b="&a;"/>',
        b'<!DOCTYPE safe SYSTEM "http://198.18.0.1/x.dtd"><safe/>',
        b'<!DOCTYPE safe PUBLIC "a" "file:///etc/passwd"><safe/>',
        b"<!DOCTYPE safe><!DOCTYPE safe><safe/>",
        b"<!DOCTYPE html><safe/>",
        b'<safe/><!ENTITY x SYSTEM "file:///etc/passwd">',
    ]
    for bomb in bombs:
        (fault,) = faults_of(bomb)
        assert "only <!DOCTYPE safe> alone is allowed" in fault, bomb


def test_undefined_entity_is_named() -> None:
    assert faults_of(b'<!DOCTYPE safe>\n<safe a="&foo;"/>') == [
        "f.xml:2: XML: not well-formed: Entity 'foo' not defined"
    ]


def test_other_encodings_are_refused() -> None:
    assert "not UTF-8" in faults_of("<safe/>".encode("utf-16"))[0]
    assert "not UTF-8" in faults_of(b"<safe>\n<a b='\xe9'/></safe>")[0]


def test_declared_encoding_is_not_believed() -> None:
    assert faults_of(b'<?xml version="1.0" encoding="utf-7"?><safe/>') == []


def test_name_spaces_instructions_and_text_are_refused() -> None:
    assert "name spaces" in faults_of(b'<safe xmlns="urn:x"/>')[0]
    assert "name spaces" in faults_of(b'<safe xmlns:x="urn:x"><x:a/></safe>')[0]
    assert "name spaces" in faults_of(b'<safe xmlns:x="urn:x"/>')[0]
    assert "processing instruction" in faults_of(b"<safe><?run me?></safe>")[0]
    assert "text inside" in faults_of(b"<safe>hello</safe>")[0]
    assert "text inside" in faults_of(b"<safe><![CDATA[ rule ]]></safe>")[0]


def test_size_count_and_depth_are_bounded() -> None:
    assert "more than 1048576" in faults_of(b" " * (XML_BYTES_MAX + 1))[0]
    assert "elements" in faults_of(b"<safe>" + b"<a/>" * ELEMENTS_MAX + b"</safe>")[0]
    assert "nested deeper" in faults_of(b"<a>" * 100 + b"</a>" * 100)[0]
    assert faults_of(b"<a>" * 5_000 + b"</a>" * 5_000)


def test_attributes_of_one_element_are_bounded() -> None:
    allowed, more = (
        "".join(f" a{number}=''" for number in range(count)) for count in (ATTRIBUTES_MAX, 95_000)
    )
    assert faults_of(f"<safe{allowed}/>".encode()) == []
    assert faults_of(f"<safe>\n<a{more}/></safe>".encode()) == [
        "f.xml:2: a: 95000 attributes, more than 256"
    ]


def test_faults_cannot_harm_a_terminal() -> None:
    (fault,) = faults_of("<safe\u202e/>".encode())
    assert fault.isprintable()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_tree_or_faults(text: bytes) -> None:
    faults_of(text)


@settings(deadline=None)
@given(st.text(alphabet='<>!/&;"= a-[]?xsafe%', max_size=120))
def test_any_markup_gives_a_tree_or_faults(text: str) -> None:
    faults_of(text.encode())
