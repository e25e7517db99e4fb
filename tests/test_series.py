"""A series of models: found, measured alike, gone on with, marked and drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Sas, sharp_bert, spoil
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertForMaskedLM,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from sas_lib import series, series_figures, series_measures, uas
from sas_lib.checkpoints import MeasureError
from sas_lib.minimal_pairs import equal_pieces
from sas_lib.model import load
from sas_lib.series import Member, SeriesError, mark, measure, members, read, step_in
from sas_lib.series_measures import loss_rows, plan, text_rows
from sas_lib.treebank import Sentence

STEPS = [0, 100, 2000]
PAIRS = {
    "order": [("the dog sees that tree .", "dog the sees that tree .")],
    "verb": [
        ("the king helps that old cat .", "the king that helps old cat ."),
        ("the child paints that house .", "paints the child that house ."),
    ],
}


@pytest.fixture(scope="module")
def saved(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models as one run would have left them; do not write here, but to a copy."""
    folder = tmp_path_factory.mktemp("theirs") / "checkpoints"
    for seed, step in enumerate(STEPS):
        place = folder / f"step-{step:06d}"
        sharp_bert(tokenizer, seed).save_pretrained(place)
        tokenizer.save_pretrained(place)
    (folder / "notes").mkdir()
    return folder


@pytest.fixture
def gold(sentences: list[Sentence]) -> list[Sentence]:
    return sentences[::40]


def value(table: pd.DataFrame, step: int, metric: str) -> float:
    found = table[(table["step"] == step) & (table["metric"] == metric)]
    assert len(found) == 1
    return float(found["value"].iloc[0])


# --- which models ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step-000300", 300),
        ("google/multiberts-seed_0-step_20k", 20_000),
        ("google/multiberts-seed_4-step_2000k/", 2_000_000),
        ("angie-chen55/bert-base-seed2-ckpt-180000", 180_000),
        ("runs/a/checkpoint-500", 500),
        ("step1", 1),
        ("STEP_2M", 2_000_000),
        ("google/multiberts-seed_0", None),
        ("bert-base-uncased", None),
        ("step-5-old", None),
    ],
)
def test_the_step_is_read_off_the_end_of_a_name(name: str, step: int | None) -> None:
    assert step_in(name) == step


def test_a_folder_of_checkpoints_or_a_run_folder_is_a_series(saved: Path) -> None:
    found = members(saved)
    assert found == [Member(str(saved / f"step-{step:06d}"), step) for step in STEPS]
    assert members(saved.parent) == found


def test_names_and_revisions_are_put_in_order(tmp_path: Path) -> None:
    there = tmp_path / "a@b-step-7"
    there.mkdir()
    found = members(["org/x-step_2k", "org/y@step300", str(there)])
    assert found == [
        Member(str(there), 7),
        Member("org/y", 300, "step300"),
        Member("org/x-step_2k", 2000),
    ]
    assert str(found[1]) == "org/y@step300"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (["bert-base-uncased"], "does not end in a step"),
        (["org/a-step-5@main"], "'org/a-step-5@main' does not end"),
        (["a-step-5", "b-ckpt-5"], "both of step 5"),
        ([], "no models"),
    ],
)
def test_what_is_no_series_is_refused(where: list[str], message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        members(where)


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="no folders such as"):
        members(tmp_path)


# --- what is measured -----------------------------------------------------------------


def test_figures_are_those_of_the_models_alone(
    saved: Path, gold: list[Sentence], tmp_path: Path
) -> None:
    table = measure(members(saved), plan(gold, PAIRS), tmp_path / "out", quiet=True)
    assert sorted(table["step"].unique()) == STEPS
    for step in STEPS:
        arcs = uas.score_arcs(*load(saved / f"step-{step:06d}"), gold)
        figures = uas.summarise(arcs)
        assert value(table, step, "uas_best_head") == figures["best_head"]["uas"]
        assert value(table, step, "uas_per_relation") == figures["per_relation"]["uas"]
        row = table[(table["step"] == step) & (table["detail"] == "amod")]
        row = row.set_index("metric")["value"]
        assert row["relation_arcs"] == len(gold)  # one adjective a sentence
        assert row["relation_baseline_offset"] == 1.0  # its noun comes next
        heads = table[(table["step"] == step) & (table["metric"] == "head_relation_uas")]
        assert heads[heads["detail"] == "amod"]["value"].max() == row["relation_uas"]
    assert len(table["model"].unique()) == 3
    assert 0 <= value(table, 0, "pairs_accuracy") <= 1


@torch.inference_mode()
def test_the_loss_is_that_of_transformers(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    gold: list[Sentence],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library's own loss, from labels at the same places, and the masks once counted."""
    seen: list[tuple[torch.Tensor, ...]] = []
    inner = series_measures.masked_lm_loss
    monkeypatch.setattr(
        series_measures, "masked_lm_loss", lambda *a: (seen.append(a[1:]), inner(*a))[1]
    )
    rows = {row["metric"]: row["value"] for row in loss_rows(model, tokenizer, gold)}
    (ids, attended, positions, labels), *more = seen
    assert not more
    full = torch.full(ids.shape, -100)
    full.view(-1)[positions] = labels
    theirs = model(input_ids=ids, attention_mask=attended, labels=full).loss
    assert rows["valid_loss"] == pytest.approx(float(theirs), rel=1e-5)
    assert len(labels) == round(0.15 * int(attended.sum() - 2 * len(gold)))
    assert 0 < rows["unigram_entropy"] < np.log(len(tokenizer))


def test_text_rows_count_pieces_unknowns_and_what_is_too_long(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    def bare(*words: str) -> Sentence:
        heads = (-1, *[0] * (len(words) - 1))
        return Sentence(words, heads, ("root", *["dep"] * (len(words) - 1)))

    given = [bare("the", "dog"), bare("the", "☃"), bare(*["the"] * 39)]
    rows = {row["metric"]: row["value"] for row in text_rows(model, tokenizer, given)}
    pieces = [tokenizer.tokenize(" ".join(s.words)) for s in given]
    assert rows["pieces_per_word"] == sum(map(len, pieces)) / 43
    assert rows["unknown_share"] == 1 / sum(map(len, pieces))
    assert rows["too_long_share"] == 1 / 3  # 39 and two special tokens, of 40


def test_pairs_of_unequal_pieces_drop_out(tokenizer: PreTrainedTokenizerFast) -> None:
    even, uneven = ("the dog .", "dog the ."), ("the dog .", "the the dog .")
    pairs = {"a": [even, uneven, uneven[::-1]], "b": [uneven]}
    assert equal_pieces(pairs, tokenizer) == {"a": [even]}


def test_there_must_be_something_to_measure_on() -> None:
    with pytest.raises(ValueError, match="give sentences"):
        plan()


@pytest.fixture(scope="module")
def roberta(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RoBERTa with its kind of tokenizer: byte-level, cased, the space in the piece."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    named = dict(zip(names, special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **named)
    size: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer), num_attention_heads=4, max_position_embeddings=42, **size
    )
    place = tmp_path_factory.mktemp("roberta") / "step-1k"
    RobertaForMaskedLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_a_cased_byte_level_model_is_measured_by_words(
    roberta: Path, gold: list[Sentence], tmp_path: Path
) -> None:
    """The best head's UAS, counted anew: attention of pieces added up by their spaces."""
    pairs = {"order": [("The dog sees .", "Dog the sees .")]}
    table = measure(members([str(roberta)]), plan(gold, pairs), tmp_path, quiet=True)
    best = table[table["metric"] == "uas_best_head"].iloc[0]
    model, tokenizer = load(roberta)
    right = arcs = 0
    for sentence in gold:
        ids = tokenizer(" ".join(sentence.words), return_tensors="pt")["input_ids"]
        out = model.roberta(ids, output_attentions=True)
        map_ = out.attentions[int(best["layer"])][0, int(best["head"])].detach()
        words: list[list[int]] = []
        for place, piece in enumerate(tokenizer.convert_ids_to_tokens(ids[0])[1:-1], start=1):
            if piece.startswith("Ġ") or not words:
                words.append([])
            words[-1].append(place)
        assert len(words) == len(sentence)
        to = torch.stack([map_[:, w].sum(1) for w in words], 1)
        table_ = torch.stack([to[w].mean(0) for w in words])
        if best["direction"] == "head_to_dependent":
            table_ = table_.T
        table_ = table_.fill_diagonal_(-1)
        for word, head, relation in sentence.arcs():
            if relation != "punct":
                right += int(table_[word].argmax() == head)
                arcs += 1
    assert best["value"] == pytest.approx(right / arcs)
    assert value(table, 1000, "unknown_share") == 0


# --- going on, and what stands in the way ------------------------------------------------


def test_what_was_measured_is_not_measured_again(
    saved: Path, gold: list[Sentence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure(members(saved), plan(gold), tmp_path / "out", quiet=True)
    loads: list[str] = []
    monkeypatch.setattr(series, "load", lambda name, *_: (loads.append(name), load(name))[1])
    again = measure(members(saved), plan(gold), tmp_path / "out", quiet=True)
    assert loads == []
    pd.testing.assert_frame_equal(first, again)
    measure(members(saved)[:1], plan(gold), tmp_path / "out", again=True, quiet=True)
    assert len(loads) == 1


def test_an_interrupted_call_is_gone_on_with(
    saved: Path, gold: list[Sentence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure(members(saved), plan(gold), tmp_path / "whole", quiet=True)
    loads: list[str] = []

    def stopped(name: str, *_: object) -> object:
        loads.append(name)
        if len(loads) == 2:
            raise KeyboardInterrupt
        return load(name)

    monkeypatch.setattr(series, "load", stopped)
    with pytest.raises(KeyboardInterrupt):
        measure(members(saved), plan(gold), tmp_path / "out", quiet=True)
    assert set(read(tmp_path / "out")["step"]) == {0}
    table = measure(members(saved), plan(gold), tmp_path / "out", quiet=True)
    assert len(loads) == 4  # the second anew, and the third
    pd.testing.assert_frame_equal(table.assign(run=""), whole.assign(run=""))


def test_other_data_or_another_model_is_not_mixed_in(
    saved: Path, gold: list[Sentence], tmp_path: Path
) -> None:
    out, found = tmp_path / "out", members(saved)
    measure(found, plan(gold), out, quiet=True)
    with pytest.raises(MeasureError, match="at step 0 of other data"):
        measure(found, plan(gold[1:]), out, quiet=True)
    other = Member(found[1].model, 0)
    with pytest.raises(MeasureError, match="of another model"):
        measure([other], plan(gold), out, quiet=True)
    table = measure([other], plan(gold), out, again=True, quiet=True)
    same = [value(table, step, "uas_best_head") for step in (0, 100)]
    assert same[0] == same[1]


def test_a_bad_model_stops_no_other(
    saved: Path,
    gold: list[Sentence],
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(saved, theirs)
    BertModel(sharp_bert(tokenizer).config).save_pretrained(theirs / "step-000000")
    spoil(theirs / "step-000100")
    with pytest.raises(MeasureError) as error:
        measure(members(theirs), plan(gold), tmp_path / "out", quiet=True)
    assert "lacks weights of a masked language model" in str(error.value)
    assert "not finite" in str(error.value) and "all else is kept" in str(error.value)
    assert set(read(tmp_path / "out")["step"]) == {2000}


def test_a_figure_that_is_not_finite_is_not_kept(saved: Path, tmp_path: Path) -> None:
    bad = plan(pairs=PAIRS)[0]
    bad = type(bad)("bad", {}, lambda: lambda *_: [{"metric": "m", "value": float("nan")}])
    with pytest.raises(MeasureError, match="m is no finite number"):
        measure(members(saved)[:1], [bad], tmp_path / "out", quiet=True)
    with pytest.raises(MeasureError, match="nothing was measured"):
        read(tmp_path / "out")


def test_a_revision_reaches_the_hub(
    saved: Path, gold: list[Sentence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        series, "load", lambda *a: (asked.append(a), load(saved / "step-000000"))[1]
    )
    table = measure(members(["org/x@step7"]), plan(gold), tmp_path, quiet=True)
    assert asked == [("org/x", "cpu", "step7")]
    assert set(table["model"]) == {"org/x@step7"}


def test_a_model_that_cannot_be_had_is_named(gold: list[Sentence], tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="org/none-step-3"):
        measure(members(["org/none-step-3"]), plan(gold), tmp_path, quiet=True)


def test_sas_onsets_reads_the_results(
    saved: Path, gold: list[Sentence], tmp_path: Path, sas: Sas
) -> None:
    measure(members(saved), plan(gold), tmp_path / "theirs", quiet=True)
    result = sas("onsets", tmp_path / "theirs", "--rule", "threshold", "--json")
    found = json.loads(result.out)
    assert found["metric"] == "uas_per_relation"
    assert found["verdict"] == "too few checkpoints"


# --- onsets ---------------------------------------------------------------------------


def curve(steps: np.ndarray, values: np.ndarray, metric: str = "m") -> pd.DataFrame:
    return pd.DataFrame({"step": steps, "metric": metric, "value": values})


@pytest.mark.parametrize("metric", ["m", "valid_loss"])
def test_a_break_is_found_between_its_checkpoints(metric: str) -> None:
    steps = np.arange(0, 1050, 50)
    ramp = np.interp(steps, [0, 400, 600, 1000], [0.1, 0.1, 0.9, 0.9])
    noisy = ramp + np.random.default_rng(0).normal(scale=0.01, size=len(steps))
    found = mark(curve(steps, -noisy if metric == "valid_loss" else noisy, metric), metric)
    assert found.verdict == "break"
    assert found.onset is not None and abs(found.onset - 400) <= 15
    assert found.low is not None and found.high is not None
    assert found.low <= found.onset <= found.high
    assert (found.before, found.after) in {(350, 400), (400, 450)}
    assert found.before <= found.onset <= found.after


def test_an_onset_at_a_checkpoint_lies_between_it_and_the_next() -> None:
    steps = np.arange(0, 1050, 50)
    found = mark(curve(steps, np.interp(steps, [400, 600], [0.1, 0.9])), "m")
    assert (found.onset, found.before, found.after) == (400, 400, 450)


def test_a_straight_line_has_no_break_and_few_checkpoints_no_onset() -> None:
    steps = np.arange(0, 1050, 50)
    line = steps / 1000 + np.random.default_rng(1).normal(scale=0.01, size=len(steps))
    assert mark(curve(steps, line), "m").verdict == "no break"
    ramp = np.interp(steps, [0, 400, 500, 1000], [0.1, 0.1, 0.9, 0.9])
    sparse = mark(curve(steps[::3], ramp[::3]), "m")
    assert sparse == series.Marked(None, None, None, None, None, "too few checkpoints")


def test_a_curve_that_only_slows_down_has_nothing_to_mark() -> None:
    steps = np.arange(0, 1050, 50)
    found = mark(curve(steps, 1 - np.exp(-steps / 200)), "m")
    assert found == series.Marked(None, None, None, None, None, "no break")


def test_several_values_at_a_step_are_no_curve() -> None:
    both = pd.concat([curve(np.arange(9), np.arange(9.0))] * 2)
    for table, name in ((both, "m"), (both, "absent")):
        with pytest.raises(SeriesError, match="no curve"):
            mark(table, name)


# --- figures --------------------------------------------------------------------------


def data_of(chart: Any) -> list[dict[str, Any]]:
    return [row for rows in chart.to_dict()["datasets"].values() for row in rows]


def test_the_overview_has_a_panel_for_what_was_measured(
    saved: Path, gold: list[Sentence], tmp_path: Path
) -> None:
    table = measure(members(saved), plan(gold, PAIRS), tmp_path, quiet=True)
    full = series_figures.overview(table, ["amod", "obj"])
    assert len(full.vconcat) == 5
    assert {row["place"] for row in data_of(full) if "place" in row} == {
        f"{layer}.{head}" for layer in range(2) for head in range(4)
    }
    spec = full.to_dict()
    domain = spec["vconcat"][0]["layer"][0]["layer"][0]["encoding"]["x"]["scale"]
    assert domain["type"] == "log" and domain["domain"] == [100, 2000]
    assert all(row["step"] > 0 for row in data_of(full) if "label" in row)
    linear = series_figures.overview(table, ["amod"], log=False).to_dict()
    domain = linear["vconcat"][0]["layer"][0]["layer"][0]["encoding"]["x"]["scale"]
    assert domain["type"] == "linear" and domain["domain"] == [0, 2000]
    no_pairs = table[~table["metric"].str.startswith("pairs")]
    assert len(series_figures.overview(no_pairs, ["amod"]).vconcat) == 4


def test_the_maps_show_what_was_measured(
    saved: Path, gold: list[Sentence], tmp_path: Path
) -> None:
    table = measure(members(saved), plan(gold, PAIRS), tmp_path, quiet=True)
    cells = data_of(series_figures.relation_map(table, least=1))
    amod = next(row for row in cells if row["name"] == "amod" and row["step"] == 100)
    assert amod["shown"] == pytest.approx(amod["uas"] - amod["offset"], abs=1e-3)
    with pytest.raises(ValueError, match="no relation has 49 arcs"):
        series_figures.relation_map(table, least=2 * len(gold) + 1)
    both = series_figures.phenomenon_map(table, {"order": "word order", "verb": "word order"})
    of = table[(table["metric"] == "paradigm_accuracy") & (table["step"] == 100)]
    cell = next(row for row in data_of(both) if row["step"] == 100)
    assert cell["name"] == "word order" and cell["paradigms"] == 2
    assert cell["shown"] == pytest.approx(of["value"].mean(), abs=1e-3)
