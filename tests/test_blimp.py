"""Minimal pairs in files, and the commands that score them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Sas, one_line_error, spoil
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from sas_lib import minimal_pairs
from sas_lib.blimp import Paradigm, by_phenomenon, read_pairs, read_paradigms
from sas_lib.minimal_pairs import pseudo_log_likelihood, score_paradigms


def jsonl(*pairs: tuple[str, str], **fields: str) -> str:
    rows = ({"sentence_good": good, "sentence_bad": bad, **fields} for good, bad in pairs)
    return "".join(json.dumps(row) + "\n" for row in rows)


AGREEMENT = [("a dog sees", "a dog see"), ("the cat helps", "the cat help"), ("a", "b")]


# --- BLiMP's format -------------------------------------------------------------------


def test_read_blimp(tmp_path: Path) -> None:
    term = "subject_verb_agreement"
    (tmp_path / "verbs.jsonl").write_text(jsonl(*AGREEMENT, linguistics_term=term))
    (tmp_path / "animate.jsonl").write_text(jsonl(*AGREEMENT, linguistics_term="s-selection"))
    (tmp_path / "binding.jsonl").write_text(jsonl(AGREEMENT[0]))
    (tmp_path / "notes-on.txt").write_text("not looked at")
    assert read_paradigms(tmp_path, limit=2) == [
        Paradigm("animate", "argument_structure", AGREEMENT[:2]),
        Paradigm("binding", "binding", AGREEMENT[:1]),
        Paradigm("verbs", term, AGREEMENT[:2]),
    ]
    assert read_pairs(tmp_path)["verbs"] == AGREEMENT


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"sentence_good": "a"}\n', "line 1: no minimal pair"),
        ('{"sentence_good": "a", "sentence_bad": "b"}\nnot json\n', "line 2: no minimal pair"),
        ("[1, 2]\n", "line 1: no minimal pair"),
        ('{"sentence_good": 1, "sentence_bad": "b"}\n', "line 1: no minimal pair"),
        ("", "no minimal pair in this file"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_malformed_pairs(tmp_path: Path, content: str | bytes, complaint: str) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "broken.jsonl").write_bytes(raw)
    with pytest.raises(ValueError, match=f"broken.jsonl.*{complaint}"):
        read_pairs(tmp_path)


def test_a_folder_without_pairs(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("bad\ngood\n")
    with pytest.raises(FileNotFoundError, match=r"no \.jsonl file.*Zorro"):
        read_pairs(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_pairs(tmp_path / "none")


def test_reads_blimp(sas_data: Path) -> None:
    paradigms = read_paradigms(sas_data / "blimp" / "data")
    assert len(paradigms) == 67
    assert all(len(paradigm.pairs) == 1000 for paradigm in paradigms)
    # BLiMP itself has pairs of one and the same sentence; they are ties.
    assert sum(good == bad for paradigm in paradigms for good, bad in paradigm.pairs) == 7
    # The numbers of paradigms in the paper's table of phenomena.
    rows = [{"phenomenon": p.phenomenon, "n": 1000, "accuracy": 0.5} for p in paradigms]
    assert {g["phenomenon"]: g["paradigms"] for g in by_phenomenon(rows)} == {
        "anaphor_agreement": 2,
        "argument_structure": 9,
        "binding": 7,
        "control_raising": 5,
        "determiner_noun_agreement": 8,
        "ellipsis": 2,
        "filler_gap_dependency": 7,
        "irregular_forms": 2,
        "island_effects": 8,
        "npi_licensing": 7,
        "quantifiers": 4,
        "subject_verb_agreement": 6,
    }


def test_means_of_phenomena_are_over_paradigms() -> None:
    rows = [
        {"phenomenon": "b", "n": 10, "accuracy": 1.0},
        {"phenomenon": "a", "n": 5, "accuracy": 0.25},
        {"phenomenon": "b", "n": 30, "accuracy": 0.5},
    ]
    assert by_phenomenon(rows) == [
        {"phenomenon": "a", "paradigms": 1, "n": 5, "accuracy": 0.25},
        {"phenomenon": "b", "paradigms": 2, "n": 40, "accuracy": 0.75},
    ]


# --- Zorro's format -------------------------------------------------------------------


def test_read_zorro(tmp_path: Path) -> None:
    lines = "a dog see\r\na dog sees\r\nthe cat help\r\nthe cat helps\r\n"
    (tmp_path / "filler-gap-wh_question.txt").write_bytes(lines.encode())
    (tmp_path / "LICENSE.txt").write_text("one\nline\n")
    (paradigm,) = read_paradigms(tmp_path)
    assert paradigm == Paradigm("filler-gap-wh_question", "filler-gap", AGREEMENT[:2])
    assert read_pairs(tmp_path, limit=1) == {"filler-gap-wh_question": AGREEMENT[:1]}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("bad\ngood\nbad\n", "line 3: no minimal pair"),
        ("bad\n\nbad\ngood\n", "line 1: no minimal pair"),
        ("", "no minimal pair in this file"),
    ],
)
def test_malformed_lines(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "case-broken.txt").write_text(content)
    with pytest.raises(ValueError, match=f"case-broken.txt.*{complaint}"):
        read_pairs(tmp_path)


def test_reads_zorro(sas_data: Path) -> None:
    paradigms = read_paradigms(sas_data / "zorro")
    assert len(paradigms) == 23
    assert all(len(paradigm.pairs) == 2000 for paradigm in paradigms)
    assert {"agreement_subject_verb", "filler-gap", "npi_licensing"} <= {
        paradigm.phenomenon for paradigm in paradigms
    }
    pairs = {paradigm.name: paradigm.pairs for paradigm in paradigms}
    neighbours = pairs["agreement_determiner_noun-between_neighbors"]
    good, bad = (
        sum(bool(re.search(r"\b(this|that) \w+s\b", pair[member])) for pair in neighbours)
        for member in (0, 1)
    )
    assert good < bad / 10, "the first of the two lines is the bad one"


# --- the commands ---------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path, texts: list[str]) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    mirrored = [(text, " ".join(reversed(text.split()))) for text in texts[:6]]
    swapped = [(a, b) for a, b in zip(texts[50:56], texts[90:96], strict=True)]
    (folder / "mirror.jsonl").write_text(jsonl(*mirrored, linguistics_term="order"))
    (folder / "swap.jsonl").write_text(
        jsonl(*swapped, (texts[0], texts[0]), linguistics_term="words")
    )
    return folder


@pytest.mark.parametrize("method", ["pll", "within_word_l2r"])
def test_blimp_as_json(
    sas: Sas,
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    model_folder: Path,
    pairs: Path,
    method: minimal_pairs.Method,
    tmp_path: Path,
) -> None:
    out = tmp_path / "figures.json"
    arguments = ("blimp", model_folder, pairs, "--json", "--method", method, "--out", out)
    result = sas(*arguments)
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    expected = score_paradigms(model, tokenizer, read_pairs(pairs), method=method)
    assert [row["paradigm"] for row in figures["paradigms"]] == ["mirror", "swap"]
    for row in figures["paradigms"]:
        assert {key: row[key] for key in ("n", "accuracy", "ties")} == {
            key: expected[row["paradigm"]][key] for key in ("n", "accuracy", "ties")
        }
        margin = expected[row["paradigm"]]["margin"]  # this shows which method was used
        assert row["margin"] == pytest.approx(margin, abs=1e-6)
    assert [row["phenomenon"] for row in figures["paradigms"]] == ["order", "words"]
    accuracies = [row["accuracy"] for row in expected.values()]
    assert figures["mean"] == pytest.approx(sum(accuracies) / 2)
    assert (figures["method"], figures["ties"], figures["complete"]) == (method, 1, True)
    assert json.loads(out.read_text()) == figures
    limited = json.loads(sas("blimp", model_folder, pairs, "--json", "--limit", 2).out)
    assert [row["n"] for row in limited["paradigms"]] == [2, 2]


def test_blimp_as_a_table(sas: Sas, model_folder: Path, pairs: Path) -> None:
    figures = json.loads(sas("blimp", model_folder, pairs, "--json").out)
    result = sas("blimp", model_folder, pairs)
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == "2 paradigms, 13 pairs, pll".split()
    assert lines[1][:4] == ["mean", "accuracy", f"{figures['mean']:.3f},", "1"]
    for row in figures["paradigms"]:
        wanted = [str(row["n"]), str(row["ties"]), f"{row['accuracy']:.3f}"]
        assert [row["paradigm"], *wanted] in lines
        assert [row["phenomenon"], wanted[0], wanted[2]] in lines
    assert max(map(len, result.out.splitlines())) <= 80


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), ValueError("sentence 13 is odd")])
def test_what_is_scored_before_a_stop_is_kept(
    sas: Sas,
    model_folder: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: BaseException,
) -> None:
    scored = minimal_pairs._score
    calls: list[int] = []

    def stops(*arguments: object) -> np.ndarray:
        calls.append(1)
        if len(calls) > 1:
            raise problem
        return scored(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(minimal_pairs, "WINDOW", 12)  # the first paradigm, and no more
    monkeypatch.setattr(minimal_pairs, "_score", stops)
    out = tmp_path / "figures.json"
    result = sas("blimp", model_folder, pairs, "--json", "--out", out)
    assert result.code == (130 if isinstance(problem, KeyboardInterrupt) else 1)
    assert "Traceback" not in result.err
    for text in (result.out, out.read_text()):
        figures = json.loads(text)
        assert [row["paradigm"] for row in figures["paradigms"]] == ["mirror"]
        assert figures["complete"] is False
    calls.clear()
    table = sas("blimp", model_folder, pairs)
    assert "Not complete" in table.out and "mirror" in table.out and "swap" not in table.out


def test_errors_of_blimp(sas: Sas, model_folder: Path, pairs: Path, tmp_path: Path) -> None:
    one_line_error(sas("blimp", model_folder, tmp_path / "none"), "no .jsonl file", "none")
    one_line_error(sas("blimp", tmp_path / "none", pairs), "no such folder")
    (pairs / "zlong.jsonl").write_text(jsonl(("the " * 50, "the dog")))
    result = sas("blimp", model_folder, pairs, "--json")
    one_line_error(result, "sentence 27 has 50 pieces; the model takes 1 to 38")
    (pairs / "zlong.jsonl").write_text("{}\n")
    one_line_error(sas("blimp", model_folder, pairs), "zlong.jsonl, line 1: no minimal pair")
    assert sas("blimp", model_folder, pairs, "--method", "guess").code == 2
    assert sas("blimp", model_folder, pairs, "--limit", 0).code == 2


@pytest.mark.parametrize("method", ["pll", "within_word_l2r"])
def test_pll(
    sas: Sas,
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    model_folder: Path,
    texts: list[str],
    tmp_path: Path,
    method: minimal_pairs.Method,
) -> None:
    sentences = [*texts[30:40], "a dog", "the unforgettable nightingale , the cat !"]
    file = tmp_path / "sentences.txt"
    file.write_text("\n".join(sentences) + "\n")
    expected = pseudo_log_likelihood(model, tokenizer, sentences, method=method)
    result = sas("pll", model_folder, file, "--method", method)
    assert result.code == 0
    assert result.out.splitlines() == [f"{score:.6f}" for score in expected]
    figures = json.loads(sas("pll", model_folder, file, "--method", method, "--json").out)
    assert figures["method"] == method
    np.testing.assert_allclose(figures["scores"], expected, atol=1e-9)


def test_errors_of_pll(sas: Sas, model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "sentences.txt"
    one_line_error(sas("pll", model_folder, file), file)
    for content, complaint in [
        (b"", "no sentence in this file"),
        (b"a dog\n\nthe cat\n", "line 2 is empty"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"a dog\n" + b"the " * 50, "sentence 2 has 50 pieces"),
    ]:
        file.write_bytes(content)
        one_line_error(sas("pll", model_folder, file), complaint)
    file.write_text("a dog\n")
    one_line_error(sas("pll", model_folder, file, "--device", "abacus"), "abacus")


def test_weights_that_are_not_finite(
    sas: Sas, model_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "broken")
    spoil(tmp_path / "broken")
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("a dog\n")
    for command, argument in (("blimp", pairs), ("pll", sentences)):
        result = sas(command, tmp_path / "broken", argument, "--json")
        one_line_error(result, "layer.1.output.dense.weight", "not finite (NaN or inf)")


def test_keys_that_others_may_rely_on(sas: Sas, model_folder: Path, pairs: Path) -> None:
    figures = json.loads(sas("blimp", model_folder, pairs, "--json").out)
    assert {"mean", "method", "ties", "paradigms", "phenomena"} <= figures.keys()
    for row in figures["paradigms"]:
        assert {"paradigm", "phenomenon", "n", "accuracy", "ties"} <= row.keys()
    # The pair of one and the same sentence, whatever the model, is half right.
    (pairs / "mirror.jsonl").write_text(jsonl(("the dog", "the dog")))
    (mirror, _) = json.loads(sas("blimp", model_folder, pairs, "--json").out)["paradigms"]
    assert (mirror["accuracy"], mirror["ties"], mirror["n"]) == (0.5, 1, 1)


def test_zorro_by_the_command(
    sas: Sas, model_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    """The same pairs in both formats have the same figures."""
    blimp = json.loads(sas("blimp", model_folder, pairs, "--json").out)["paradigms"]
    folder = tmp_path / "zorro"
    folder.mkdir()
    for name, listed in read_pairs(pairs).items():
        lines = [line for good, bad in listed for line in (bad, good)]
        (folder / f"case-{name}.txt").write_text("\n".join(lines) + "\n")
    zorro = json.loads(sas("blimp", model_folder, folder, "--json").out)["paradigms"]
    assert [row["paradigm"] for row in zorro] == ["case-mirror", "case-swap"]
    assert {row["phenomenon"] for row in zorro} == {"case"}
    for one, other in zip(blimp, zorro, strict=True):
        for key in ("n", "accuracy", "ties"):
            assert one[key] == other[key]
        assert one["margin"] == pytest.approx(other["margin"], abs=1e-6)


def test_help_has_an_example(sas: Sas) -> None:
    for name in ("blimp", "pll"):
        result = sas(name, "--help")
        assert result.code == 0 and f"sas {name} " in result.out and "--method" in result.out
