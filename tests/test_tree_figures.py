"""Tree figures, checked on what is drawn: the SVG that Vega makes of a chart is read back.

The browser's share of the work (which arc is right, where it runs) is thereby compared with
plain Python.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd
import pytest

from sas_lib import charts, run_figures, tree_figures
from sas_lib.treebank import Sentence

vl_convert = pytest.importorskip("vl_convert")

SENTENCE = Sentence(
    words=("The", "fishermen", "mended", "old", "nets", "."),
    heads=(1, 2, -1, 4, 2, 2),
    relations=("det", "nsubj", "root", "amod", "obj", "punct"),
)
PREDICTED = [1, 2, 4, 4, 3, 0]  # right, right, root, right, wrong, punctuation
DASHES = {"1,0": "solid", "6,4": "wrong", "1,4": "not counted"}


def drawing(chart: alt.TopLevelMixin) -> ET.Element:
    spec = charts.show(chart, alt="a test").spec
    return ET.fromstring(vl_convert.vegalite_to_svg(spec))


def marks(svg: ET.Element, kind: str) -> Iterator[ET.Element]:
    """The elements of all data marks of a kind, legends and axes left out."""
    for group in svg.iter("{http://www.w3.org/2000/svg}g"):
        if group.get("class", "").startswith(f"mark-{kind} role-mark"):
            yield from group


def texts(svg: ET.Element) -> list[str]:
    return ["".join(element.itertext()) for element in marks(svg, "text")]


def lines(svg: ET.Element) -> Counter[str]:
    """How many arcs are drawn solid (gold or right), as wrong, and as not counted."""
    found = (line.get("stroke-dasharray", "1,0") for line in marks(svg, "line"))
    return Counter(DASHES[dashes] for dashes in found)


@pytest.mark.parametrize(
    ("predicted", "head", "relation", "kind"),
    [
        (1, 1, "det", "right"),
        (2, 1, "det", "wrong"),
        (2, -1, "root", "not counted"),
        (2, 2, "punct", "not counted"),
        (2, -1, "parataxis", "not counted"),  # a root by another name is still headless
    ],
)
def test_kind_of_arc(predicted: int, head: int, relation: str, kind: str) -> None:
    assert tree_figures.kind_of_arc(predicted, head, relation) == kind


def test_a_gold_tree_has_its_words_relations_and_arcs() -> None:
    svg = drawing(tree_figures.tree(SENTENCE))
    labels = [relation for relation in SENTENCE.relations if relation != "root"]
    assert Counter(texts(svg)) == Counter([*SENTENCE.words, *labels, "root"])
    assert lines(svg) == {"solid": 5}


def test_predicted_arcs_differ_in_their_dashes() -> None:
    svg = drawing(tree_figures.tree(SENTENCE, PREDICTED))
    assert lines(svg) == {"solid": 5 + 3, "wrong": 1, "not counted": 2}


def test_arcs_run_between_their_words() -> None:
    """The ends of each gold arc, in pixels, are the places of its two words."""
    svg = drawing(tree_figures.tree(SENTENCE))
    places = {}
    for element in marks(svg, "text"):
        word = "".join(element.itertext())
        x = element.get("transform", "").removeprefix("translate(").split(",")[0]
        places[word] = float(x)
    drawn = set()
    for line in marks(svg, "line"):
        points = line.get("d", "").removeprefix("M").split("L")
        ends = [float(points[i].split(",")[0]) for i in (0, -1)]
        drawn.add(tuple(round(end) for end in ends))
    words = SENTENCE.words
    assert drawn == {
        (round(places[words[dependent]]), round(places[words[head]]))
        for dependent, head, _ in SENTENCE.arcs()
    }


def test_the_formula_for_the_height_is_the_one_in_the_browser() -> None:
    """No gold arc leaves the panel, and the longest uses it but for the label's room."""
    words = 9
    long = Sentence(
        words=tuple(f"w{i}" for i in range(words)),
        heads=(-1, *[0] * (words - 1)),
        relations=("root", *["dep"] * (words - 1)),
    )
    svg = drawing(tree_figures.tree(long))
    heights = [
        float(point.split(",")[1])
        for line in marks(svg, "line")
        for point in line.get("d", "").removeprefix("M").split("L")
    ]
    assert tree_figures.UNIT * 0.5 < min(heights) < tree_figures.UNIT * 2


def test_as_many_predictions_as_words() -> None:
    with pytest.raises(ValueError, match="6 words but 2 predicted heads"):
        tree_figures.tree(SENTENCE, [1, 2])


def test_a_single_word_can_be_drawn() -> None:
    svg = drawing(tree_figures.tree(Sentence(("Yes",), (-1,), ("root",))))
    assert texts(svg) == ["root", "Yes"]


def test_a_grid_shows_its_weights_and_leaves_empty_cells_empty() -> None:
    weights = np.array([[np.nan, 0.45, 0.3], [0.1, np.nan, 0.025], [0.05, 0.2, np.nan]])
    svg = drawing(tree_figures.weight_grid(weights, ["the", "old", "the"], "Words"))
    assert sorted(texts(svg), key=float) == ["2.5", "5", "10", "20", "30", "45"]


def test_runs_stand_beside_the_offset_at_the_sliders_checkpoint() -> None:
    rows = pd.DataFrame(
        [
            (number, seed, group, 0.1 * number + 0.01 * seed)
            for number in (0, 1)
            for seed in (0, 1, 2)
            for group in ("det", "obj")
        ],
        columns=["number", "seed", "group", "uas"],
    )
    baseline = pd.DataFrame({"group": ["det", "obj"], "uas": [0.6, 0.3]})
    slider = run_figures.step_slider([0, 100], start=1)
    chart = tree_figures.against_offset(rows, baseline, slider, "By relation")
    svg = drawing(chart.add_params(slider))
    labels = [mark.get("aria-label", "") for mark in marks(svg, "symbol")]
    shown = sorted(label.split("uas: ")[1].split(";")[0] for label in labels)
    assert shown == ["0.10", "0.10", "0.11", "0.11", "0.12", "0.12"]
    assert len(list(marks(svg, "rect"))) == 2  # ticks
