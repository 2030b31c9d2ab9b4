"""The tables of a report show what was hit, what never was, and what cannot be."""

from lxml import etree

from mirrorfarm.sim.coverage.counts import Coverage
from mirrorfarm.sim.sweeps.coverage import show_coverage
from mirrorfarm.sim.sweeps.markup import tag


def test_a_cell_has_its_count_its_colour_and_its_reason() -> None:
    coverage = Coverage()
    coverage.add({"mirror leading Tick": 1_234}, {"cut leading": 7}, {}, {})
    page = etree.tostring(tag("div", *show_coverage(coverage)), method="html", encoding="unicode")
    assert '<td class="h4" title="Tick while leading">1,234</td>' in page
    assert '<td class="never" title="Tick while taking">0</td>' in page
    assert 'title="Started while leading: a process is given it once' in page
    assert '<td class="h1" title="cut while leading">7</td>' in page
    assert "Never happened: R1 writes wait" in page


def test_a_sweep_that_counted_nothing_has_no_tables() -> None:
    assert show_coverage(Coverage()) == []
