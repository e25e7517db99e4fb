"""The command line, as a user meets it: help, results, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Sas, one_line_error
from test_pretraining import metrics
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from sas_lib import runs
from sas_lib.treebank import ROOT, Sentence, read_conllu, write_conllu
from sas_lib.uas import score_arcs, summarise


@pytest.fixture(scope="module")
def treebank(sentences: list[Sentence], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "bank.conllu"
    alone = Sentence(("alone",), (ROOT,), ("root",))
    write_conllu([*sentences[:40:3], alone], path)
    return path


# --- help -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["toy", "sentences"], ["--n", "--seed", "--out"]),
        (["toy", "pairs"], ["--n", "--seed", "--out"]),
        (
            ["uas"],
            ["--json", "--include-root", "--include-punct", "--max-length", "--device"],
        ),
        (["pretrain"], ["--out", "--config", "--seed", "--corpus", "--resume", "--steps"]),
    ],
)
def test_help_has_options_and_an_example(
    sas: Sas, command: list[str], options: list[str]
) -> None:
    result = sas(*command, "--help")
    assert (result.code, result.err) == (0, "")
    for option in options:
        assert f"  {option}" in result.out
    examples = [line for line in result.out.splitlines() if f"sas {' '.join(command)} " in line]
    assert examples, "an example that can be copied"


def test_help_lists_the_commands(sas: Sas) -> None:
    result = sas("--help")
    assert result.code == 0
    for name in ("uas", "pretrain", "toy"):
        assert f"\n  {name} " in result.out
    listed = sas("toy", "--help").out
    assert "sentences" in listed and "pairs" in listed


# --- uas ------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--include-root",), ("--include-punct",)])
def test_uas_as_json(
    sas: Sas,
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    model_folder: Path,
    treebank: Path,
    flags: tuple[str, ...],
) -> None:
    result = sas("uas", model_folder, treebank, "--json", *flags)
    assert result.code == 0
    figures = json.loads(result.out)  # and nothing but JSON on standard output
    arcs = score_arcs(model, tokenizer, read_conllu(treebank))
    root, punct = "--include-root" in flags, "--include-punct" in flags
    assert figures == json.loads(json.dumps(summarise(arcs, root, punct)))
    assert figures["n_arcs"] == 14 * (5 + root + punct)
    assert figures["skipped"][0] == {
        "reason": "a single word has no possible head",
        "sentences": 1,
        "words": 1,
    }


def test_uas_as_a_table(sas: Sas, model_folder: Path, treebank: Path) -> None:
    figures = json.loads(sas("uas", model_folder, treebank, "--json").out)
    result = sas("uas", model_folder, treebank)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "14 sentences, 70 arcs"
    assert f"{figures['best_head']['uas']:.3f}" in lines[1]
    for row in figures["per_relation"]["relations"]:
        (line,) = [line for line in lines if line.split()[:1] == [row["relation"]]]
        assert line.split()[1:4] == [
            str(row["n"]),
            f"{row['uas']:.3f}",
            f"{row['held_out_uas']:.3f}",
        ]
        assert f"layer {row['layer']} head {row['head']} {row['direction']}" in line
    assert lines[-1] == "left out: 1 sentences, 1 words: a single word has no possible head"
    assert max(map(len, lines)) <= 100


def test_uas_of_one_sentence_has_nothing_to_hold_out(
    sas: Sas, model_folder: Path, sentences: list[Sentence], tmp_path: Path
) -> None:
    write_conllu(sentences[:1], tmp_path / "one.conllu")
    figures = json.loads(sas("uas", model_folder, tmp_path / "one.conllu", "--json").out)
    assert figures["best_head"]["held_out_uas"] is None
    table = sas("uas", model_folder, tmp_path / "one.conllu")
    assert table.code == 0 and "held out -" in table.out


def test_uas_leaves_out_long_sentences(sas: Sas, model_folder: Path, treebank: Path) -> None:
    one_line_error(
        sas("uas", model_folder, treebank, "--max-length", 4), "no sentence left to score"
    )
    assert sas("uas", model_folder, treebank, "--max-length", 0).code == 2


def test_errors_of_uas(sas: Sas, model_folder: Path, treebank: Path, tmp_path: Path) -> None:
    missing, bad = tmp_path / "missing.conllu", tmp_path / "bad.conllu"
    one_line_error(sas("uas", model_folder, missing), missing)
    bad.write_text("# sent_id = s\n1\tno\ttree\n\n")
    one_line_error(sas("uas", model_folder, bad), f"{bad}, line 2, sentence s", "10 columns")
    bad.write_text("")
    one_line_error(sas("uas", model_folder, bad), bad, "no sentence")
    one_line_error(sas("uas", tmp_path / "none", treebank), tmp_path / "none", "no such folder")
    one_line_error(sas("uas", tmp_path, treebank), tmp_path, "cannot load")
    one_line_error(sas("uas", model_folder, treebank, "--device", "abacus"), "abacus")
    one_line_error(sas("uas", model_folder, tmp_path), tmp_path)  # a folder for a treebank


# --- pretrain -------------------------------------------------------------------------

SMALL = [
    *("--layers", 1, "--width", 16, "--heads", 2, "--vocab-size", 120, "--max-length", 40),
    *("--batch-size", 8, "--warmup-steps", 2, "--log-checkpoints", 0, "--even-checkpoints", 2),
    *("--threads", 1),
]


@pytest.fixture
def corpus(texts: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(f"{text.capitalize()}" for text in texts) + "\n")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    (tmp_path / "pairs").mkdir()
    row = {"sentence_good": "the dog sees that tree", "sentence_bad": "dog the sees that tree"}
    (tmp_path / "pairs" / "order.jsonl").write_text(f"{json.dumps(row)}\n" * 3)
    return tmp_path / "pairs"


def test_pretrain_on_text_and_measure_it(
    sas: Sas, corpus: Path, treebank: Path, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [
        "pretrain", "--config", "mini", "--corpus", corpus, "--treebank", treebank,
        "--pairs", pairs, "--out", out, "--steps", 6, "--seed", 3, *SMALL,
    ]  # fmt: skip
    result = sas(*command)
    assert result.code == 0, result.err
    assert result.out == "" and f"metrics in {out / 'metrics.jsonl'}" in result.err
    rows = metrics(out)
    assert sorted({row["step"] for row in rows}) == [0, 3, 6]
    assert {
        "valid_loss", "train_loss", "uas_best_head", "uas_per_relation", "relation_uas",
        "pairs_accuracy", "unigram_entropy", "bigram_cross_entropy", "tokens_per_second",
    } <= {row["metric"] for row in rows}  # fmt: skip
    settings = json.loads((out / "config.json").read_text())
    assert (settings["steps"], settings["seed"], settings["width"]) == (6, 3, 16)
    assert settings["learning_rate"] == 5e-4, "what is not given is as in --config"

    # The checkpoint can be measured, and gives what the run has logged.
    figures = json.loads(sas("uas", out / "checkpoints/step-000006", treebank, "--json").out)
    logged = [r["value"] for r in rows if r["metric"] == "uas_per_relation" and r["step"] == 6]
    assert logged == [figures["per_relation"]["uas"]]

    before = (out / "metrics.jsonl").read_bytes()
    one_line_error(sas(*command), out, "--resume")
    assert sas(*command, "--resume").code == 0
    assert (out / "metrics.jsonl").read_bytes() == before
    one_line_error(sas(*command, "--resume", "--learning-rate", 0.1), "another learning_rate")


def test_errors_of_pretrain(sas: Sas, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    missing, short = tmp_path / "missing.txt", tmp_path / "short.txt"
    one_line_error(sas("pretrain", "--out", out, "--corpus", missing), missing)
    short.write_text("One sentence is not enough.\n")
    one_line_error(sas("pretrain", "--out", out, "--corpus", short), "too few to train on")
    arguments = ["pretrain", "--out", out, "--corpus", corpus, *SMALL]
    one_line_error(sas(*arguments, "--treebank", missing), missing)
    one_line_error(sas(*arguments, "--pairs", tmp_path / "none"), "no .jsonl file")
    one_line_error(sas(*arguments, "--heads", 5), "no multiple of the number of heads")
    one_line_error(sas(*arguments, "--batch-size", 99_999), "fewer than one batch")
    one_line_error(sas(*arguments, "--device", "abacus"), "abacus")
    assert not out.exists(), "a mistake in the command leaves nothing to clear away"
    for wrong in (["--config", "huge"], ["--steps", 0], ["--dropout", 2], ["--treebank", "x"]):
        result = sas("pretrain", "--out", out, *wrong)
        assert result.code == 2 and "Error" in result.err


def test_ctrl_c_is_no_traceback(
    sas: Sas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*arguments: object, **options: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "toy_run", interrupted)
    result = sas("pretrain", "--out", tmp_path / "run")
    assert result.code == 130
    assert "Traceback" not in result.err


# --- toy English ----------------------------------------------------------------------


def test_toy_sentences(sas: Sas, tmp_path: Path) -> None:
    one, again, other = (tmp_path / f"{name}.conllu" for name in ("one", "again", "other"))
    for path, seed in ((one, 1), (again, 1), (other, 2)):
        result = sas("toy", "sentences", "--n", 50, "--seed", seed, "--out", path)
        assert result.code == 0 and f"50 sentences in {path}" in result.err
    assert one.read_bytes() == again.read_bytes() != other.read_bytes()
    assert len(list(read_conllu(one))) == 50
    one_line_error(sas("toy", "sentences", "--out", tmp_path / "no" / "such" / "folder"), "no")


def test_toy_pairs(sas: Sas, tmp_path: Path) -> None:
    result = sas("toy", "pairs", "--n", 3, "--seed", 1, "--out", tmp_path / "pairs")
    assert result.code == 0, result.err
    pairs = runs.read_pairs(tmp_path / "pairs")
    assert len(pairs) >= 12
    for of_paradigm in pairs.values():
        assert len(of_paradigm) == 3
        assert all(good != bad for good, bad in of_paradigm)
        assert all(len(good.split()) == len(bad.split()) for good, bad in of_paradigm)


def test_pretrain_on_toy_english(sas: Sas, tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = [*SMALL, "--even-checkpoints", 1, "--vocab-size", 1000]
    result = sas("pretrain", "--out", out, "--sentences", 2000, "--steps", 2, *small)
    assert result.code == 0, result.err
    rows = metrics(out)
    last = {row["metric"]: row["value"] for row in rows if row["step"] == 2}
    assert {"valid_loss", "uas_best_head", "uas_per_relation", "pairs_accuracy"} <= set(last)
    before = (out / "metrics.jsonl").stat().st_mtime_ns
    again = sas("pretrain", "--out", out, "--sentences", 1, "--steps", 2, *small, "--resume")
    assert again.code == 0, again.err  # nothing is left to do, so no data is made ready
    assert (out / "metrics.jsonl").stat().st_mtime_ns == before
    # A model that has learnt nothing is at chance, for the pairs have equally many pieces.
    assert last["pairs_accuracy"] == pytest.approx(0.5, abs=0.15)
