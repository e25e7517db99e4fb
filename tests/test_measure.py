"""What is measured after a run: the figures, and what survives an interruption."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Sas, one_line_error, spoil
from transformers import PreTrainedTokenizerFast

from sas_lib import catalogue, checkpoints, complexity, results, toy_english, uas
from sas_lib.blimp import read_pairs
from sas_lib.catalogue import NAMES, SIZES, plan
from sas_lib.checkpoints import END, MeasureError, Planned, chosen, kept, measure
from sas_lib.cli.onsets import read_metrics
from sas_lib.context import attention_profile, context_use, loss_without
from sas_lib.corpus import encode
from sas_lib.finetune import Recipe, each_run
from sas_lib.fisher import fisher_trace
from sas_lib.glue import read_task
from sas_lib.measure_runs import Asked, measure_again
from sas_lib.measures import pairs_measure
from sas_lib.model import autocast, load
from sas_lib.pretraining import Data, pretrain
from sas_lib.runs import TREEBANK_SEED
from sas_lib.settings import Config
from sas_lib.treebank import ROOT, Sentence, write_conllu

STEPS = [0, 1, 2, 4]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def trained(
    sentences: list[Sentence],
    tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run of four steps; do not measure this one, but a copy."""
    size: dict[str, Any] = {"layers": 2, "width": 32, "heads": 4, "max_length": 40}
    some = {"batch_size": 8, "log_checkpoints": 2, "even_checkpoints": 2, "warmup_steps": 1}
    config = Config(**size, **some, vocab_size=90, steps=4, learning_rate=1e-2, seed=3)
    data = Data(
        tokenizer,
        encode(sentences[:64], tokenizer, 40),
        encode(sentences[64:96], tokenizer, 40),
    )
    out = tmp_path_factory.mktemp("runs") / "trial-3"
    pretrain(out, config, data, [], quiet=True)
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "trial-3")
    return tmp_path / "trial-3"


@pytest.fixture(scope="module")
def treebank(sentences: list[Sentence], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty sentences; before them one of a single word and one too long for the model."""
    path = tmp_path_factory.mktemp("bank") / "bank.conllu"
    alone = Sentence(("alone",), (ROOT,), ("root",))
    long = Sentence(("dog",) * 45, (ROOT, *[0] * 44), ("root", *["dep"] * 44))
    write_conllu([alone, long, *sentences[::32]], path)
    return path


@pytest.fixture(scope="module")
def pairs(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    rows = [
        {"sentence_good": t, "sentence_bad": " ".join(reversed(t.split()))} for t in texts[:6]
    ]
    (folder / "mirror.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def counting(name: str, calls: list[str], **settings: Any) -> Planned:
    """A measure that notes its calls: the sum of the embeddings, which tells models apart."""

    def figures(model: Any, tokenizer: Any) -> list[Row]:
        calls.append(name)
        total = float(model.base_model.embeddings.word_embeddings.weight.double().sum())
        return [{"metric": name, "value": total}, {"metric": f"{name}_n", "value": 1.0}]

    return Planned(name, settings, lambda: figures)


def lines(run: Path) -> list[Row]:
    return [json.loads(line) for line in (run / "measures.jsonl").read_text().splitlines()]


# --- each measure is the library's own ------------------------------------------------


def expected_rows(
    name: str, model: Any, tokenizer: Any, sentences: list[Sentence], pairs: Path
) -> dict[tuple[Any, ...], float]:
    """By another way than the catalogue: the functions that the measures rest on."""
    words = [s.words for s in sentences]
    texts = [" ".join(w) for w in words]
    found: dict[tuple[Any, ...], float] = {}
    if name == "dimension":
        for pooling in ("cls", "mean"):
            states = complexity.sentence_states(model, tokenizer, texts, -1, pooling)  # type: ignore[arg-type]
            for metric in ("euclidean", "cosine"):
                try:
                    value = complexity.two_nn(states, metric).dimension  # type: ignore[arg-type]
                except complexity.DimensionError:
                    continue
                found["dimension", f"{pooling} {metric}"] = value
    elif name == "fisher":
        value, error = fisher_trace(model, tokenizer, texts)
        found = {("fisher_trace",): value, ("fisher_trace_standard_error",): error}
    elif name == "context":
        with autocast(model.device):
            use = context_use(model, tokenizer, words)
        for i, window in enumerate(use.windows):
            detail = str(window or "all")
            found["context_accuracy", detail] = float(use.accuracy[i])
            found["context_loss", detail] = float(use.loss[i])
    elif name == "attention":
        profile = attention_profile(model, tokenizer, words)
        for layer, head in np.ndindex(2, 4):
            place = ("attention_entropy", layer, head)
            found[place] = float(profile.entropy[layer, head])
    elif name == "uas":
        figures = uas.summarise(uas.score_arcs(model, tokenizer, sentences))
        found["full_uas_per_relation",] = figures["per_relation"]["uas"]
        found["full_baseline_offset",] = figures["baselines"]["best_offset"]["uas"]
        for one in figures["per_relation"]["relations"]:
            found["full_relation_uas", one["relation"]] = one["uas"]
    elif name == "roads":
        with autocast(model.device):
            for cut, value in loss_without(model, tokenizer, words).items():
                found["roads_loss", cut] = value
    elif name == "surprisal":
        for number, place in enumerate(words):
            for word in range(len(place)):
                found["word_surprisal", f"{number}:{word}"] = masked_word(
                    model, tokenizer, place, word
                )
    elif name == "pairs":
        for row in pairs_measure(read_pairs(pairs))(model, tokenizer):
            key = ("full_" + row["metric"], *([row["detail"]] if "detail" in row else []))
            found[key] = row["value"]
    return found


def masked_word(model: Any, tokenizer: Any, words: Sequence[str], word: int) -> float:
    """The surprisal of one word with all its pieces masked, alone in its batch."""
    batch = tokenizer(list(words), is_split_into_words=True, return_tensors="pt")
    hidden = torch.tensor([w == word for w in batch.word_ids(0)])
    ids = batch["input_ids"].masked_fill(hidden, tokenizer.mask_token_id)
    with torch.inference_mode(), autocast(model.device):
        logits = model(input_ids=ids, attention_mask=batch["attention_mask"]).logits[0]
    right = (
        logits.float().log_softmax(-1)[hidden].gather(1, batch["input_ids"][0, hidden, None])
    )
    return float(-right.sum())


def by_name(rows: list[Row]) -> dict[tuple[Any, ...], float]:
    """Metric and detail, or metric, layer and head where there is no direction."""
    return {
        (
            row["metric"],
            *([row["detail"]] if "detail" in row else []),
            *([row["layer"], row["head"]] if "head" in row and "direction" not in row else []),
        ): row["value"]
        for row in rows
    }


@pytest.mark.parametrize("name", SIZES)
def test_a_measure_is_what_the_library_gives(
    run: Path, treebank: Path, pairs: Path, sentences: list[Sentence], name: str
) -> None:
    planned = plan(run, [name], treebank, pairs)
    assert planned[0].settings["n"] == SIZES[name]
    (taken,) = measure(run, planned, [4])
    model, tokenizer = load(run / "checkpoints" / "step-000004")
    expected = expected_rows(name, model, tokenizer, sentences[::32], pairs)
    found = by_name(taken.rows)
    assert expected
    if name == "surprisal":  # two words of each sentence were drawn
        assert len(taken.rows) == 1 + 2 * len(sentences[::32])
        expected = {key: value for key, value in expected.items() if key in found}
        assert len(expected) == len(taken.rows) - 1
    tolerance = 5e-3 if name == "surprisal" else 1e-4  # in bfloat16 a batch changes rounding
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=tolerance, abs=1e-6), key
    assert all(row["step"] == 4 and row["tokens"] > 0 for row in taken.rows)
    assert taken.rows[-1]["metric"] == END and taken.rows[-1]["detail"] == name
    assert taken.rows == lines(run)


def test_weights_are_measured_from_the_start_of_the_run(run: Path) -> None:
    first, last = measure(run, plan(run, ["weights"]), [0, 4])
    start, end = (dict(load(kept(run)[s])[0].named_parameters()) for s in (0, 4))
    squares = sum(float(p.detach().double().square().sum()) for p in end.values())
    moved = sum(float((p - start[k]).detach().double().square().sum()) for k, p in end.items())
    assert by_name(first.rows)["weight_distance",] == 0
    assert by_name(last.rows)["squared_weight_norm",] == pytest.approx(squares)
    assert by_name(last.rows)["weight_distance",] == pytest.approx(math.sqrt(moved), rel=1e-5)
    # A released run has no model of step 0 of its own; its settings make the same one.
    shutil.rmtree(run / "checkpoints" / "step-000000")
    again = dict(checkpoints.initial_model(run).named_parameters())
    assert all(torch.equal(again[name], p) for name, p in start.items())


def test_long_arcs_are_scored_alone(run: Path, treebank: Path) -> None:
    model, tokenizer = load(run / "checkpoints" / "step-000004")
    gold = catalogue._sentences(run, treebank, 20)  # no arc of five words
    metrics = {row["metric"] for row in catalogue.full_uas_rows(model, tokenizer, gold)}
    assert metrics and not any(metric.startswith("long") for metric in metrics)
    words = tuple("the dog sees that old small tree .".split())
    sentences = [
        Sentence(words, heads, relations)
        for heads, relations in [
            ((6, ROOT, 1, 1, 1, 1, 0, 0), ("a", "root", *["x"] * 5, "punct")),
            ((6, ROOT, 1, 1, 1, 1, 1, 1), ("a", "root", *["x"] * 4, "b", "punct")),
            ((5, 6, ROOT, 2, 2, 2, 2, 2), ("a", "b", "root", *["x"] * 4, "punct")),
        ]
    ]
    rows = by_name(catalogue.full_uas_rows(model, tokenizer, sentences))
    arcs = uas.score_arcs(model, tokenizer, sentences)
    # a: 6, 6 and 5 words to the right; x: 6 to the left; b: 5 to the left and 5 to the right,
    # of which the first sentence has none and the second and third one each.
    long = (np.abs(arcs.distance) >= 5) & (arcs.relation != "punct")
    assert sorted(arcs.distance[long]) == [-6, -5, 5, 5, 6, 6]
    assert rows["long_arcs",] == 6
    correct = arcs.correct[long].reshape(6, -1)
    assert rows["long_uas_best_head",] == pytest.approx(correct.mean(0).max())
    of_a = arcs.relation[long] == "a"
    assert rows["long_uas_per_relation",] >= correct[of_a].mean(0).max() * 3 / 6
    assert rows["long_baseline_offset",] == pytest.approx(2 / 6)
    assert rows["long_baseline_offset_per_relation",] == pytest.approx((2 + 1 + 1) / 6)


def test_toy_english_is_the_default(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = measure(run, plan(run, ["attention"], size=5), [4])
    model, tokenizer = load(kept(run)[4])
    fitting = [
        s.words
        for s in toy_english.sentences(200, TREEBANK_SEED)
        if len(s) > 1 and len(tokenizer(" ".join(s.words))["input_ids"]) <= 40
    ]
    profile = attention_profile(model, tokenizer, fitting[:5])
    found = by_name(taken.rows)
    assert found["attention_entropy", 1, 2] == pytest.approx(profile.entropy[1, 2])
    assert taken.settings == {"data": "toy English", "seed": TREEBANK_SEED, "n": 5}


def test_a_task(run: Path) -> None:
    (taken,) = measure(run, plan(run, ["toy_number"], size=16, seeds=2), [4])
    model, tokenizer = load(kept(run)[4])
    read = read_task("toy_number", 16)
    *_, row = each_run(model, tokenizer, "toy_number", *read, Recipe(), 2)
    found = by_name(taken.rows)
    assert found["finetuned_accuracy", "toy_number"] == row["mean"]
    assert found["finetuned_accuracy_sd", "toy_number"] == pytest.approx(row["sd"])
    assert found["majority_accuracy", "toy_number"] == 0.5
    assert found["finetuned_mcc", "toy_number"] == pytest.approx(
        np.mean([one["mcc"] for one in row["runs"]])
    )


def test_tasks_and_groups_have_names() -> None:
    assert [p.name for p in plan("x", NAMES)] == ["weights", *SIZES]
    tasks = [p.name for p in plan("x", ["tasks", "toy_number", "rte"])]
    assert tasks == ["toy_acceptability", "toy_entailment", "toy_number", "rte"]
    with pytest.raises(MeasureError, match="no measure 'dimenson'; there are weights, dim"):
        plan("x", ["dimenson"])


def test_toy_english_and_files_are_not_mixed(treebank: Path, pairs: Path) -> None:
    assert [p.name for p in plan("x")] == [*NAMES]
    given = [p.name for p in plan("x", treebank=treebank)]
    assert given == [name for name in NAMES if name != "pairs"]
    assert [p.name for p in plan("x", pairs=pairs)] == ["weights", "pairs"]
    assert [p.name for p in plan("x", treebank=treebank, pairs=pairs)] == [*NAMES]
    with pytest.raises(MeasureError, match="pairs needs --pairs"):
        plan("x", ["pairs"], treebank)
    with pytest.raises(MeasureError, match="uas needs --treebank"):
        plan("x", ["uas"], pairs=pairs)


def test_hans_rows() -> None:
    scored = [{"hans": {"overlap": {"entailment": x, "non-entailment": 0.0}}} for x in (1, 0.5)]
    rows = by_name(catalogue.hans_rows({"runs": scored}))
    assert rows == {
        ("hans_accuracy", "overlap entailment"): 0.75,
        ("hans_accuracy", "overlap non-entailment"): 0.0,
    }


# --- going on -------------------------------------------------------------------------


def test_every_checkpoint_once(run: Path) -> None:
    calls: list[str] = []
    planned = [counting("a", calls), counting("b", calls)]
    assert list(kept(run)) == STEPS
    taken = list(measure(run, planned))
    assert [(one.step, one.name) for one in taken] == [(s, n) for s in STEPS for n in "ab"]
    assert len({one.rows[0]["value"] for one in taken}) == 4  # four models
    assert list(measure(run, planned)) == []
    (one,) = measure(run, [counting("c", calls)], [2])
    assert one.step == 2 and Counter(calls) == {"a": 4, "b": 4, "c": 1}
    assert [row["step"] for row in lines(run)] == [s for s in STEPS for _ in range(6)] + [2] * 3


def test_what_is_done_needs_no_data(run: Path) -> None:
    list(measure(run, [counting("a", [])]))

    def costly() -> Any:
        raise AssertionError("the data were read")

    assert list(measure(run, [Planned("a", {}, costly)])) == []


def test_an_interruption_loses_only_the_measurement_under_way(run: Path) -> None:
    calls: list[str] = []

    def stops(model: Any, tokenizer: Any) -> list[Row]:
        if len(calls) == 3:
            raise KeyboardInterrupt
        return counting("b", calls).make()(model, tokenizer)

    planned = [counting("a", calls), Planned("b", {}, lambda: stops)]
    with pytest.raises(KeyboardInterrupt):
        list(measure(run, planned))
    done = [(one.step, one.name) for one in checkpoints.read_taken(run)]
    assert done == [(0, "a"), (0, "b"), (1, "a")]
    rest = list(measure(run, [counting("a", calls), counting("b", calls)]))
    assert [(one.step, one.name) for one in rest] == [
        (1, "b"),
        *((s, n) for s in (2, 4) for n in "ab"),
    ]
    assert Counter(calls) == {"a": 4, "b": 4}
    assert len(lines(run)) == 8 * 3


@pytest.mark.parametrize("cut", [1, 3, 60, 150])
def test_a_half_written_end_is_measured_again(run: Path, cut: int) -> None:
    calls: list[str] = []
    list(measure(run, [counting("a", calls)]))
    path = run / "measures.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert [one.step for one in checkpoints.read_taken(run)] == [0, 1, 2]
    assert len(results.read_run(run).query("metric == 'a'")) == 3
    assert [one.step for one in measure(run, [counting("a", calls)])] == [4]
    assert len(calls) == 5
    now, before = (
        [row for row in map(json.loads, text.splitlines()) if row["metric"] != END]
        for text in (path.read_bytes(), whole)
    )
    assert now == before


@pytest.mark.parametrize("damage", ['{"step": 1, "metr\n', "[1]\n", ""])
def test_a_damaged_line_costs_one_measurement(run: Path, damage: str) -> None:
    list(measure(run, [counting("a", [])]))
    path = run / "measures.jsonl"
    before = path.read_text().splitlines(keepends=True)
    # The end of the second measurement is gone where ``damage`` is nothing.
    number = 4 if damage else 5
    path.write_text("".join([*before[:number], damage, *before[number + 1 :]]))
    lost = {1} if damage else {1, 2}
    assert {one.step for one in checkpoints.read_taken(run)} == set(STEPS) - lost
    assert {one.step for one in measure(run, [counting("a", [])])} == lost
    values = [row for row in lines(run) if row["metric"] != END]
    expected = [row for row in map(json.loads, before) if row["metric"] != END]
    assert sorted(values, key=str) == sorted(expected, key=str)


def test_other_settings_are_not_mixed(run: Path) -> None:
    calls: list[str] = []
    list(measure(run, [counting("a", calls, n=5), counting("b", calls)], [0, 1, 2]))
    with pytest.raises(MeasureError, match=r"holds a of other settings: n was 5, now 6.*again"):
        list(measure(run, [counting("a", calls, n=6)]))
    assert len(calls) == 6
    list(measure(run, [counting("a", calls, n=6)], [2, 4], again=True))
    taken = [(one.step, one.name, one.settings) for one in checkpoints.read_taken(run)]
    assert [t for t in taken if t[1] == "a"] == [(2, "a", {"n": 6}), (4, "a", {"n": 6})]
    assert [t[0] for t in taken if t[1] == "b"] == [0, 1, 2]
    assert len(lines(run)) == 5 * 3  # nothing of the first settings is left


def test_again_replaces_only_what_is_measured(run: Path) -> None:
    """What was there stays until there is something in its place."""
    list(measure(run, [counting("a", [])]))

    def broken(model: Any, tokenizer: Any) -> list[Row]:
        raise ValueError("not today")

    with pytest.raises(MeasureError, match="not today"):
        list(measure(run, [Planned("a", {}, lambda: broken)], again=True))
    assert [one.step for one in checkpoints.read_taken(run)] == STEPS
    calls: list[str] = []
    list(measure(run, [counting("a", calls)], [1], again=True))
    assert len(calls) == 1 and len(lines(run)) == 4 * 3


# --- what cannot be measured ----------------------------------------------------------


def test_a_bad_checkpoint_stops_no_other(run: Path) -> None:
    folders = kept(run)
    list(measure(run, [counting("a", [])], [0]))
    spoil(folders[1])
    (folders[2] / "config.json").write_text("{}")
    found = []
    with pytest.raises(MeasureError) as raised:
        for taken in measure(run, [counting("a", []), counting("b", [])]):
            found.append((taken.step, taken.name))
    assert found == [(0, "b"), (4, "a"), (4, "b")]
    message = str(raised.value)
    assert "step-000001" in message and "not finite (NaN or inf)" in message
    assert "step-000002" in message and "cannot load a masked language model" in message
    assert len(checkpoints.read_taken(run)) == 4


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_not_written(run: Path, wrong: float) -> None:
    figures = Planned(
        "a", {}, lambda: lambda model, tokenizer: [{"metric": "x", "value": wrong}]
    )
    with pytest.raises(MeasureError, match="a of step-000002: x is no finite number"):
        list(measure(run, [figures], [2]))
    assert checkpoints.read_measures(run) == []


def test_a_run_folder_is_needed(run: Path, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="none holds no checkpoints"):
        kept(tmp_path / "none")
    with pytest.raises(MeasureError, match="no checkpoint and metrics of step 3"):
        list(measure(run, [counting("a", [])], [3]))
    (run / "metrics.jsonl").unlink()
    with pytest.raises(MeasureError, match=r"holds no metrics\.jsonl"):
        list(measure(run, [counting("a", [])]))


def test_no_sentence_to_measure_on(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.conllu"
    write_conllu([Sentence(("alone",), (ROOT,), ("root",))], alone)
    with pytest.raises(MeasureError, match=r"no sentence of .*alone\.conllu"):
        list(measure(run, plan(run, ["attention"], alone)))
    with pytest.raises(MeasureError, match=r"nothing to read in .*none\.conllu"):
        plan(run, ["uas"], tmp_path / "none.conllu")


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ("0", [0]),
        ("0,400-1600,last", [0, 400, 1000, 1600, 7500]),
        (" 1000 - ", [1000, 1600, 7500]),
        ("last,0-100", [0, 13, 7500]),
    ],
)
def test_steps_that_are_asked_for(asked: str, steps: list[int]) -> None:
    assert chosen([0, 13, 400, 1000, 1600, 7500], asked) == steps


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [("500", "no checkpoint at 500; there are 0, 13"), ("x", "'x' names no steps"), ("", "''")],
)
def test_steps_that_are_not_there(asked: str, complaint: str) -> None:
    with pytest.raises(MeasureError, match=complaint):
        chosen([0, 13], asked)


# --- together with the metrics of the run ---------------------------------------------


def test_rows_are_read_with_the_metrics(run: Path, treebank: Path) -> None:
    before = results.read_run(run)
    list(measure(run, plan(run, ["weights", "attention"], treebank)))
    table = results.read_run(run)
    assert list(table.columns) == results.COLUMNS
    pd.testing.assert_frame_equal(
        table[: len(before)].astype(object), before.astype(object), check_dtype=False
    )
    norms = table[table["metric"] == "squared_weight_norm"]
    assert norms["step"].tolist() == STEPS and set(table["seed"]) == {3}
    tokens = before.groupby("step")["tokens"].first()
    assert norms.set_index("step")["tokens"].equals(tokens.loc[STEPS])
    heads = table[(table["metric"] == "attention_entropy") & table["head"].notna()]
    assert len(heads) == 4 * 8 and heads["layer"].dtype == "Int16"
    rows = read_metrics(run / "measures.jsonl")  # sas onsets takes the file as it is
    assert {"squared_weight_norm", "attention_entropy"} <= set(rows["metric"])


# --- the command ----------------------------------------------------------------------


def test_measure_as_json(sas: Sas, run: Path, treebank: Path, pairs: Path) -> None:
    data = ("--treebank", treebank, "--pairs", pairs, "--n", 20)
    result = sas("measure", run, *data, "--steps", "0,last", "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    assert (figures["measured"], figures["before"], figures["left"]) == (18, 0, 0)
    assert {row["step"] for row in figures["rows"]} == {0, 4}
    seconds = {row["detail"] for row in figures["rows"] if row["metric"] == END}
    assert seconds == set(NAMES) == figures["settings"].keys()
    assert figures["settings"]["uas"]["n"] == 20
    assert not any("settings" in row for row in figures["rows"])
    again = json.loads(sas("measure", run, *data, "--steps", "0,last", "--json").out)
    assert (again["measured"], again["before"]) == (0, 18)
    assert again["rows"] == figures["rows"]
    more = json.loads(sas("measure", run, "--what", "weights", "--json").out)
    assert (more["measured"], more["before"]) == (2, 2)
    assert {row["step"] for row in more["rows"]} == set(STEPS)
    assert {row["detail"] for row in more["rows"] if row["metric"] == END} == {"weights"}


def test_measure_as_a_table(sas: Sas, run: Path) -> None:
    result = sas("measure", run, "--what", "weights", "--steps", "0,4")
    assert "2/2" in result.err  # the bar
    found = [line.split() for line in result.out.splitlines()]
    assert found[0][:6] == "2 measured, 0 there before, 0".split()[:6]
    (row,) = [line for line in found if line[:1] == ["weight_distance"]]
    values = [row["value"] for row in lines(run) if row["metric"] == "weight_distance"]
    assert row[1:] == ["0", f"{values[1]:.4g}"]
    (seconds,) = [line for line in found if line[:1] == ["weights"]]
    assert seconds[1] == "2"
    assert max(map(len, result.out.splitlines()[1:])) <= 80


def test_ctrl_c_says_how_to_go_on(sas: Sas, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = checkpoints.load

    def stops(folder: Path, *arguments: Any) -> Any:
        if folder.name == "step-000002":
            raise KeyboardInterrupt
        return loaded(folder, *arguments)

    monkeypatch.setattr(checkpoints, "load", stops)
    result = sas("measure", run, "--what", "weights", "--json")
    assert result.code == 130
    assert "2 of 4 are kept: the same command goes on" in result.err
    figures = json.loads(result.out)
    assert (figures["measured"], figures["left"]) == (2, 2)
    monkeypatch.setattr(checkpoints, "load", loaded)
    figures = json.loads(sas("measure", run, "--what", "weights", "--json").out)
    assert (figures["measured"], figures["before"], figures["left"]) == (2, 2, 0)


def test_errors_of_measure(sas: Sas, run: Path, tmp_path: Path) -> None:
    one_line_error(sas("measure", tmp_path / "none"), "holds no checkpoints")
    one_line_error(sas("measure", run, "--what", "guess"), "no measure 'guess'")
    weights, uas = (("measure", run, "--what", what) for what in ("weights", "uas"))
    one_line_error(sas(*weights, "--steps", "3"), "no checkpoint at 3")
    one_line_error(sas(*uas, "--treebank", tmp_path / "none.conllu"), "none.conllu")
    empty = tmp_path / "empty.conllu"
    empty.write_text("")
    one_line_error(sas(*uas, "--treebank", empty), "empty.conllu")
    spoil(kept(run)[2])
    one_line_error(sas(*weights), "not finite (NaN or inf)", printed=True)
    assert [one.step for one in checkpoints.read_taken(run)] == [0, 1, 4]
    one_line_error(sas(*weights, "--device", "abacus"), "abacus", printed=True)
    text = sas("measure", "--help").out
    assert "sas measure runs/toy-0 --what" in text
    assert all(name in text for name in (*NAMES, "--steps", "--json"))


def test_measured_again_alike_or_not(run: Path) -> None:
    asked = Asked(what=("weights",), steps="1,4")
    taken = list(measure(run, *asked.of(run)))
    (same,) = measure_again(run.parent, [run.name], asked).to_dict("records")
    assert same["different"] == same["largest_difference"] == 0
    assert same["values"] == sum(len(one.rows) - 1 for one in taken) == 4
    rows = lines(run)
    rows[0]["value"] += 2.0
    (run / "measures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (other,) = measure_again(run.parent, [run.name], asked).to_dict("records")
    assert other["different"] == 1 and other["largest_difference"] == pytest.approx(2.0)
    assert lines(run) == rows  # the run itself is as before
