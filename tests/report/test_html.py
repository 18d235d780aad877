import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from diskern.errors import DiskernError
from diskern.report.html import render_report, write_report
from diskern.report.markup import Html, html, table

VOID = {"meta", "img", "br", "path", "rect", "link"}


class Outline(HTMLParser):
    """Checks nesting and collects tags, addresses and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in {"src", "href", "action", "srcset"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def rendered(identified):
    return render_report(identified)


def test_the_page_is_well_nested_and_needs_nothing_from_outside(rendered):
    outline = Outline(rendered)
    assert outline.open == []
    assert outline.tags.count("img") == 2
    assert all(a.startswith("data:image/png;base64,") for a in outline.addresses)
    assert "url(" not in rendered
    assert "@import" not in rendered
    assert "default-src 'none'" in rendered


def test_hostile_names_stay_text(rendered):
    outline = Outline(rendered)
    assert "script" not in outline.tags
    assert "b" not in outline.tags
    assert any("<b>Au</b>" in words for words in outline.words)


def test_answers_are_there(rendered):
    words = " ".join("".join(Outline(rendered).words).split())
    for expected in ("Cubic (97 %)", "look the same", "[111]", "face-centred", "0.4 %", "+1.2 %"):
        assert expected in words
    assert "beam stop 3." in words
    assert "sha256" in words


def test_verdict_comes_before_everything_else(rendered):
    body = rendered[rendered.index("<body") :]
    assert body.index("<h1") < body.index("<h2")


def test_refusal_page_claims_nothing(refused):
    text = render_report(refused)
    assert "No crystal identified" in text
    for claim in ("Crystal system", "Candidate phases", "Space group"):
        assert claim not in text


def test_rings_page_lists_spacings(ringed):
    text = render_report(ringed)
    assert "2.338" in text
    assert "not indexed" in text


def test_missing_scale_is_said(uncalibrated):
    assert "No calibration was given" in render_report(uncalibrated)


def test_the_file_is_written_with_its_folder(refused, tmp_path):
    path = write_report(refused, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_an_impossible_path_is_one_clear_line(refused, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskernError, match="cannot write the report to"):
        write_report(refused, tmp_path / "file" / "report.html")


def test_control_characters_and_huge_names_survive(refused):
    analysis = refused.analyses[0]
    odd = replace(analysis, pattern=replace(analysis.pattern, source="a\x00\x1b[31m" + "x" * 5000))
    text = render_report(replace(refused, analyses=(odd,)))
    assert "\x00" not in text
    assert "\x1b" not in text


def test_markup_escapes_unless_told_otherwise():
    assert html("<&\"'") == "&lt;&amp;&quot;&#x27;"
    assert html(Html("<b>")) == "<b>"
    assert "&lt;i&gt;" in table(["<i>"], [["x"]])
    assert not table(["x"], [])


def test_every_class_of_the_page_is_in_the_style(rendered):
    style = re.search(r"<style>(.*?)</style>", rendered, re.DOTALL).group(1)
    used = set(re.findall(r'class="([a-z ]+)"', rendered))
    plain = {"found", "refused", "right", "wrong"}
    assert all(f".{name}" in style for group in used for name in group.split() if name not in plain)
