"""Widgets, driven from Python: values are set and buttons clicked, without a browser.

Where widgets may appear at all is tried in real kernels: one that a program drives, as the
book's build does, and one whose client says that someone sits there.
"""

from __future__ import annotations

import asyncio
import html
import math
import subprocess
import sys
import textwrap
from collections import Counter
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import sharp_bert
from nbclient import NotebookClient
from test_tree_figures import drawing, lines, texts
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from sas_lib import toy_english, tree_figures, uas
from sas_lib.corpus import encode, train_tokenizer
from sas_lib.model import word_attention, word_batch
from sas_lib.regularizer import lambda_at
from sas_lib.treebank import Sentence
from sas_lib.validation import validation
from sas_lib.widgets import ParseExplorer, ScheduleTrainer, parse_explorer, trainer
from sas_lib.widgets.explorer import words_of
from sas_lib.widgets.front_end import loaded

pytest.importorskip("ipywidgets")

# --- where they appear ------------------------------------------------------------------

CELLS = [
    """
from sas_lib import widgets
from sas_lib.corpus import train_tokenizer
from sas_lib.model import small_bert
tokenizer = train_tokenizer(["the old baker sang to the cat ."])
models = {"one": (small_bert(len(tokenizer), 1, 16, 2, 32), tokenizer)}
""",
    "widgets.parse_explorer(models, ())",
    "widgets.schedule_trainer(models)",
]


class Sitting(NotebookClient):
    """A program that says, as a front end does, that someone can be asked a question."""

    async def async_start_new_kernel_client(self) -> Any:
        client = await super().async_start_new_kernel_client()
        client.allow_stdin = True
        return client


def executed(client: type[NotebookClient]) -> tuple[Any, list[dict[str, Any]]]:
    """The notebook, and what its two widget cells show."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client(notebook, timeout=300, kernel_name="python3").execute()
    return notebook, [cell.outputs[0].data for cell in cells[1:]]


def test_a_program_that_executes_a_notebook_gets_a_sentence() -> None:
    notebook, shown = executed(NotebookClient)
    for data in shown:
        assert "run this page with a live kernel" in data["text/markdown"]
    assert "widgets" not in notebook.metadata  # no state for a page to bring to life


def test_a_front_end_gets_the_widgets() -> None:
    _, shown = executed(Sitting)
    for data in shown:
        assert "application/vnd.jupyter.widget-view+json" in data


def test_without_a_notebook_there_is_a_sentence() -> None:
    assert "live kernel" in parse_explorer({}, ()).data


def test_without_ipywidgets_the_page_runs_and_says_what_to_install() -> None:
    script = """
        import sys
        sys.modules["ipywidgets"] = None  # an import of it fails
        from sas_lib import widgets
        from sas_lib.widgets import front_end
        assert "live kernel" in widgets.parse_explorer("toy_models").data
        front_end.live = lambda: True
        assert "pip install ipywidgets" in widgets.parse_explorer("toy_models").data
        assert "pip install ipywidgets" in widgets.schedule_trainer("toy_models").data
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_the_kept_models_have_names_that_can_be_read() -> None:
    models = loaded("toy_models")
    assert {"base, step 300", "base, step 7,500", "suppress, step 7,500"} <= set(models)
    assert all(model.config.num_hidden_layers == 4 for model, _ in models.values())


# --- the parse of a sentence ------------------------------------------------------------


def test_text_becomes_the_words_of_the_treebank() -> None:
    for sentence in toy_english.sentences(300, 7):
        assert words_of(" ".join(sentence.words)) == sentence.words
    assert words_of("Nora’s well-known cat, isn't it?") == (
        *("Nora", "'s", "well-known", "cat", ",", "is", "n't", "it", "?"),
    )


@pytest.fixture
def explorer(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence]
) -> ParseExplorer:
    small = sharp_bert(tokenizer, seed=1)
    small.config.num_hidden_layers = 1
    small.bert.encoder.layer = small.bert.encoder.layer[:1]
    return ParseExplorer(
        {"two layers": (model, tokenizer), "one": (small, tokenizer)}, sentences[:2]
    )


def arcs_drawn(explorer: ParseExplorer) -> dict[int, int]:
    """Dependent to head, of the arcs below the words in what the front end is given."""
    assert explorer.figure is not None
    (output,) = explorer.output.outputs
    assert output["data"]["text/html"] == explorer.figure.html
    tables = explorer.figure.spec["datasets"].values()
    rows = [row for table in tables for row in table if row.get("side") == -1]
    return {row["dependent"]: row["head"] for row in rows}


def parse_by_hand(
    explorer: ParseExplorer, name: str, layer: int, head: int, direction: int
) -> dict[int, int]:
    """Arg max by arg max, in numpy."""
    model, tokenizer = explorer.models[name]
    words = explorer.text.value.split()
    maps = torch.stack(list(word_attention(model, word_batch([words], tokenizer))))
    weights = maps[layer, 0, head].numpy().copy()
    np.fill_diagonal(weights, -1)
    found = (weights if direction == 0 else weights.T).argmax(1)
    return dict(enumerate(found.tolist()))


def test_what_is_drawn_is_what_the_attention_head_says(explorer: ParseExplorer) -> None:
    seen = set()
    for sentence in ("the king sees the old nightingale .", "that cat paints that letter"):
        explorer.text.value = sentence
        for layer, head, direction in ((0, 0, 0), (0, 2, 1), (1, 1, 0), (1, 3, 1)):
            explorer.layer.value, explorer.head.value = layer, head
            explorer.direction.value = direction
            drawn = arcs_drawn(explorer)
            assert drawn == parse_by_hand(explorer, "two layers", layer, head, direction)
            seen.add((sentence, *drawn.values()))
    assert len(seen) > 4  # the controls do change what is drawn
    explorer.checkpoint.value = "one"
    assert arcs_drawn(explorer) == parse_by_hand(
        explorer, "one", 0, explorer.head.value, explorer.direction.value
    )


def test_the_sliders_fit_the_model(explorer: ParseExplorer) -> None:
    explorer.layer.value = 1
    assert (explorer.layer.max, explorer.head.max) == (1, 3)
    explorer.checkpoint.value = "one"
    assert (explorer.layer.max, explorer.layer.value) == (0, 0)


def test_a_sentence_of_ones_own_is_drawn_without_a_gold_tree(explorer: ParseExplorer) -> None:
    explorer.text.value = "the old cat sees that dog"
    assert explorer.figure is not None and "right" not in explorer.message.value
    svg = drawing_of(explorer)
    assert Counter(texts(svg)) == Counter(explorer.text.value.split())
    assert lines(svg) == {"solid": 6}
    assert "cat on " in explorer.figure.alt


def drawing_of(explorer: ParseExplorer) -> Any:
    words, predicted = words_of(explorer.text.value), list(arcs_drawn(explorer).values())
    gold = explorer.gold.get(words)
    return drawing(
        tree_figures.tree(gold, predicted) if gold else tree_figures.parse(words, predicted)
    )


def test_a_known_sentence_has_its_gold_tree_and_a_count(
    explorer: ParseExplorer, sentences: list[Sentence]
) -> None:
    explorer.text.value = " ".join(sentences[1].words)
    assert set(sentences[1].relations) - {"root"} <= set(texts(drawing_of(explorer)))
    arcs = uas.score_arcs(*explorer.models["two layers"], [sentences[1]]).scored()
    right = int(arcs.correct[:, 0, 0, 0].sum())
    assert explorer.message.value.startswith(f"{right} of {len(arcs.relation)} arcs are right.")


def test_words_in_pieces_are_named(explorer: ParseExplorer) -> None:
    _, tokenizer = explorer.models["two layers"]
    explorer.text.value = "the wheelbarrow sees"
    pieces = " ".join(tokenizer.tokenize("wheelbarrow"))
    assert f"wheelbarrow ({pieces})" in explorer.message.value
    assert "sees (" not in explorer.message.value or len(tokenizer.tokenize("sees")) > 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There is no sentence yet"),
        ("   ", "There is no sentence yet"),
        ("dog", "no other that it could hang on"),
        ("the dog sees 日本 and 日本", "no pieces for “日本”: use other words"),
        ("<b> dog", "no pieces for “&lt;”"),
        ("the dog " * 30, "pieces are too many: this model takes 38"),
    ],
)
def test_what_cannot_be_parsed_is_said_and_nothing_is_drawn(
    explorer: ParseExplorer, text: str, said: str
) -> None:
    explorer.text.value = text
    assert said in explorer.message.value
    assert explorer.figure is None and explorer.output.outputs == ()
    explorer.text.value = "the dog sees the cat"  # and it goes on from there
    assert explorer.figure is not None and explorer.output.outputs


# --- a run under a schedule -------------------------------------------------------------


@pytest.fixture(scope="module")
def toy_model() -> dict[str, Any]:
    words = [" ".join(s.words) for s in toy_english.sentences(200, 1)]
    tokenizer = train_tokenizer(words, 400)
    return {"random": (sharp_bert(tokenizer), tokenizer)}


@pytest.fixture
def training(toy_model: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> ScheduleTrainer:
    monkeypatch.setattr(trainer, "VALID", 20)
    monkeypatch.setattr(trainer, "TREEBANK", 10)
    return ScheduleTrainer(toy_model, steps=8, every=4, batch_size=8)


def press(training: ScheduleTrainer) -> None:
    """Click on Train and wait, as the loop of a kernel would."""

    async def drive() -> None:
        training.go.click()
        assert training.task is not None
        await training.task

    asyncio.run(drive())


def steps_of(training: ScheduleTrainer) -> dict[str, list[int]]:
    return {name: [row["step"] for row in rows] for name, rows in training.rows.items()}


def test_both_runs_are_trained_measured_and_drawn(training: ScheduleTrainer) -> None:
    press(training)
    assert training.message.value.startswith("Done.")
    assert steps_of(training) == {"base": [0, 4, 8], "yours": [0, 4, 8]}
    assert training.progress.value == training.progress.max == 8
    assert not training.go.disabled and training.halt.disabled
    base, yours = training.rows["base"], training.rows["yours"]
    curves = list(trainer.CURVES)
    assert [base[0][c] for c in curves] == [yours[0][c] for c in curves]
    assert base[1]["valid_loss"] != yours[1]["valid_loss"]  # lambda acts from the first step
    assert training.figure is not None
    (drawn,) = (t for t in training.figure.spec["datasets"].values() if "run" in t[0])
    assert drawn == pd.DataFrame([*base, *yours]).to_dict("records")
    assert training.output.outputs[0]["data"]["text/html"] == training.figure.html
    assert f"yours at step 8: loss {yours[-1]['valid_loss']:.2f}" in training.figure.alt


def test_what_is_measured_is_what_the_library_measures(training: ScheduleTrainer) -> None:
    press(training)
    model, tokenizer = training.models["random"]
    valid = encode(toy_english.sentences(20, 2), tokenizer, 40)
    loss, attention = validation(model, tokenizer, valid, 0.15)
    arcs = uas.score_arcs(model, tokenizer, toy_english.sentences(10, 3))
    first = training.rows["base"][0]
    assert first["valid_loss"] == pytest.approx(loss)
    assert first["gold_arc_attention"] == pytest.approx(attention)
    assert first["uas_per_relation"] == uas.summarise(arcs)["per_relation"]["uas"]


def test_lambda_acts_between_the_chosen_steps_only(
    training: ScheduleTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    update = trainer.Learner.update

    def spy(self: Any, step: int) -> Any:
        used.append(lambda_at(self.config.sas_schedule, step))
        return update(self, step)

    monkeypatch.setattr(trainer.Learner, "update", spy)
    training.weight.value, training.stretch.value = -0.2, (4, 6)
    press(training)
    base, yours = used[:8], used[8:]
    assert base == [0.0] * 8
    # The slider has steps of 4: what is asked for lies on them.
    begin, until = training.stretch.value
    assert yours == [-0.2 if begin <= step < until else 0.0 for step in range(8)]
    assert 0.0 in yours and -0.2 in yours


def test_suppression_lowers_the_attention_on_arcs(training: ScheduleTrainer) -> None:
    training.weight.value, training.stretch.value = 0.3, (0, 8)
    press(training)
    base, yours = training.rows["base"][-1], training.rows["yours"][-1]
    assert yours["gold_arc_attention"] < base["gold_arc_attention"]


def test_the_base_run_is_trained_once(
    training: ScheduleTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    press(training)
    base = training.rows["base"]
    count = []
    update = trainer.Learner.update
    monkeypatch.setattr(
        trainer.Learner, "update", lambda s, step: count.append(step) or update(s, step)
    )
    training.weight.value = -0.1
    press(training)
    assert count == list(range(8)) and training.rows["base"] is base


def test_the_start_is_left_as_it_was(
    training: ScheduleTrainer, toy_model: dict[str, Any]
) -> None:
    model, _ = toy_model["random"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    press(training)
    assert all(torch.equal(before[n], value) for n, value in model.state_dict().items())


def test_stop_stops_between_two_steps_and_keeps_the_curves(training: ScheduleTrainer) -> None:
    async def drive() -> None:
        training.go.click()
        while len(training.rows.get("base", [])) < 2:
            await asyncio.sleep(0)
        assert training.go.disabled and not training.halt.disabled
        task = training.task
        training.go.click()  # a click that was under way
        assert training.task is task
        training.halt.click()
        assert task is not None
        await task

    asyncio.run(drive())
    assert "Stopped" in training.message.value
    assert steps_of(training) == {"base": [0, 4]}
    assert training.output.outputs and training.halt.disabled and not training.go.disabled
    press(training)  # half a base run is not taken for a whole one
    assert steps_of(training) == {"base": [0, 4, 8], "yours": [0, 4, 8]}


def test_stop_is_heard_while_sentences_are_made(training: ScheduleTrainer) -> None:
    training.steps = 10_000  # minutes of sentences

    async def drive() -> None:
        training.go.click()
        while len(training.drawn) < 100:
            await asyncio.sleep(0)
        training.halt.click()
        assert training.task is not None
        await training.task

    asyncio.run(drive())
    assert "Stopped" in training.message.value and len(training.drawn) < 1000
    training.steps = 8
    press(training)
    assert training.message.value.startswith("Done.")


def test_a_schedule_without_a_stretch_is_refused(training: ScheduleTrainer) -> None:
    training.stretch.value = (4, 4)
    press(training)
    said = html.unescape(training.message.value)
    assert said == (
        "That did not work: the penalty would end at step 4, before it begins at 4."
    )
    assert training.rows == {} and not training.go.disabled


def test_lambda_of_zero_is_the_base_run(training: ScheduleTrainer) -> None:
    training.weight.value = 0.0
    press(training)
    assert list(training.rows) == ["base"]
    assert "yours is the base run" in training.message.value


def test_a_loss_that_is_no_number_is_said(
    training: ScheduleTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "validation", lambda *_: (math.nan, 0.1))
    press(training)
    assert "the loss is nan" in training.message.value and not training.go.disabled


def test_buttons_come_back_after_any_error(
    training: ScheduleTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "validation", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        press(training)
    assert not training.go.disabled and training.halt.disabled


def test_the_stretch_is_shaded(training: ScheduleTrainer) -> None:
    training.stretch.value = (0, 4)
    press(training)
    assert training.figure is not None
    tables = list(training.figure.spec["datasets"].values())
    assert [{"step": 0, "until": 4}] in tables
