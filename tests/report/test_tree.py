import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

from diskern.report.tree import symmetry_tree
from diskern.symmetry.identification import Ranked


def test_every_branch_is_linked_to_the_one_that_holds_its_groups(identified):
    root = ElementTree.fromstring(symmetry_tree(identified))
    nodes = [g for g in root if g.tag == "g"]
    assert len(nodes) == 1 + 2 + 2 + 5
    # Fd-- shares no group with tetragonal: 2 systems, 2 symbols, 5 groups, each with one link.
    assert len([p for p in root if p.tag == "path"]) == 9


def test_a_likelier_branch_has_a_thicker_link(identified):
    widths = [float(w) for w in re.findall(r'stroke-width="([\d.]+)"', symmetry_tree(identified))]
    assert widths[0] > widths[1]


def test_names_are_escaped(identified):
    odd = replace(identified, system=(Ranked("<svg onload=x>", 1.0, (225,)),))
    assert "<svg onload" not in symmetry_tree(odd)


def test_nothing_is_drawn_without_levels(uncalibrated):
    assert symmetry_tree(uncalibrated) == ""
