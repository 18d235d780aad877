from dataclasses import replace

from diskern.report.gallery import Exhibit, picture_of, write_gallery


def test_answers_stand_beside_the_truth(identified, refused, tmp_path):
    image = picture_of(identified)
    assert image.startswith(b"\x89PNG")
    assert picture_of(refused) != image
    one = Exhibit(
        "One <crystal>", "w", "diskern identify a", "Al", image, "a/report.html", "Al", True
    )
    glass = Exhibit("Glass", "w", "c", "Cubic", image, "b/report.html", "amorphous", False)
    unknown = replace(glass, title="Unknown", truth="", agrees=None)
    text = write_gallery("Several", [one, glass, unknown], tmp_path / "index.html").read_text()
    assert "1 of 2 answers agree" in text
    assert "One &lt;crystal&gt;" in text
    assert text.count("The answer fits.") == 1
    assert text.count("does not fit") == 1
    assert 'href="a/report.html"' in text
