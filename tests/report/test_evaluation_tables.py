"""Measures as Markdown, CSV and a figure."""

from __future__ import annotations

import numpy as np

from diskern.report.evaluation import (
    bands_figure,
    counts_figure,
    csv_table,
    ensemble_figure,
    markdown_table,
    words,
)

ROWS = [
    {"network": "ResNet18", "parameters": 11689512, "accuracy": 84.9512, "test": None},
    {"network": "a|b", "parameters": 5, "accuracy": 1e-5, "test": 2.0},
]


def test_markdown() -> None:
    lines = markdown_table(ROWS).splitlines()
    assert lines[0] == "| network | parameters | accuracy | test |"
    assert lines[2] == "| ResNet18 | 11,689,512 | 84.95 | – |"
    assert lines[3] == "| a\\|b | 5 | 1e-05 | 2 |"
    assert markdown_table([]) == ""


def test_csv_keeps_precision() -> None:
    assert csv_table(ROWS).splitlines()[1] == "ResNet18,11689512,84.9512,"
    assert csv_table([]) == ""


def test_rows_may_have_columns_of_their_own() -> None:
    rows = [{"a": 1}, {"a": 2, "b": 3}]
    assert markdown_table(rows).splitlines()[2:] == ["| 1 | – |", "| 2 | 3 |"]
    assert csv_table(rows).splitlines() == ["a,b", "1,", "2,3"]


def test_words() -> None:
    assert (words(True), words(0.0), words(float("nan"))) == ("True", "0", "nan")


def test_figure_has_a_panel_for_each_part() -> None:
    rows = [
        {
            "held_out": part,
            "patterns": k,
            "mean": 0.4,
            "mean_ideal": 0.6,
            "product": 0.5,
            "product_ideal": 0.7,
        }
        for part in ("a", "b")
        for k in (1, 3)
    ]
    figure = ensemble_figure(rows)
    many = [{**row, "held_out": part} for part in "abcde" for row in rows[:2]]
    assert len(ensemble_figure(many).axes) == 5
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    drawn = [line.get_ydata().tolist() for line in figure.axes[0].lines]
    assert drawn == [[40, 40], [60, 60], [50, 50], [70, 70]]


def test_bands_have_a_panel_for_each_property_and_level() -> None:
    rows = [
        {"of": of, "band": band, "patterns": k, "level": level, "top1": 0.1 * k, "crystals": 50}
        for of, bands in (("tilt", "ab"), ("dose", "abc"))
        for band in bands
        for k in (1, 3)
        for level in ("system", "extinction_group")
    ]
    figure = bands_figure(rows)
    assert [axes.get_title() for axes in figure.axes] == ["tilt", "dose", "", ""]
    drawn = [line.get_ydata().tolist() for line in figure.axes[1].containers[1].lines[:1]]
    assert np.allclose(drawn, [[30, 30, 30]])


def test_counts_show_the_network_alone_and_its_ceiling() -> None:
    common = {"source": "network", "scale": "known", "crystals_are": "known"}
    rows = [{**common, "patterns": k, "level": "system", "top1": 0.2 * k} for k in (1, 2, 3)] + [
        {**common, "patterns": k, "level": "cubic", "top1": 0.1 * k, "ceiling": 0.3 * k}
        for k in (1, 2, 3)
    ]
    figure = counts_figure([*rows, {**rows[0], "source": "reasoner"}])
    drawn = [line.get_ydata().tolist() for line in figure.axes[0].lines]
    assert np.allclose(drawn, [[20, 40, 60], [10, 20, 30], [30, 60, 90]])
