from diskern.report.gallery import Exhibit, write_gallery


def test_answers_stand_beside_the_truth(identified, refused, tmp_path):
    exhibits = [
        Exhibit(
            "One <crystal>", "w", "diskern identify a", identified, "a/report.html", "Al", True
        ),
        Exhibit("Glass", "w", "c", refused, "b/report.html", "amorphous", False),
        Exhibit("Unknown", "w", "c", refused, "c/report.html"),
    ]
    text = write_gallery("Several", exhibits, tmp_path / "index.html").read_text()
    assert "1 of 2 answers agree" in text
    assert "One &lt;crystal&gt;" in text
    assert text.count("The answer fits.") == 1
    assert text.count("does not fit") == 1
    assert 'href="a/report.html"' in text
