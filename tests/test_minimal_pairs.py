"""Pseudo-log-likelihood against one mask at a time, and the scoring of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from sas_lib.corpus import encode
from sas_lib.measures import bigram_pairs_measure, pairs_measure
from sas_lib.minimal_pairs import accuracy, pseudo_log_likelihood, score_paradigms
from sas_lib.ngrams import BigramModel
from sas_lib.runs import read_pairs

SENTENCES = [
    "the dog sees that tree .",
    "a nightingale misunderstands the unforgettable king .",
    "helps",
    "the cat , the cat !",
    "the zebra sees that tree .",  # holds letters that the tokenizer does not know
    "Dog",
]


def one_mask_at_a_time(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sentence: str
) -> float:
    """The definition, with the whole model's logits and no batches."""
    ids = tokenizer(sentence, return_tensors="pt")["input_ids"]
    total = 0.0
    for position in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, position] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(input_ids=masked).logits[0, position].double()
        total += float(logits.log_softmax(-1)[ids[0, position]])
    return total


@pytest.mark.parametrize("batch_pieces", [1, 60, 8192])
def test_pll_is_the_brute_force(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, batch_pieces: int
) -> None:
    done: list[int] = []
    got = pseudo_log_likelihood(
        model, tokenizer, SENTENCES, batch_pieces=batch_pieces, progress=done.append
    )
    expected = [one_mask_at_a_time(model, tokenizer, sentence) for sentence in SENTENCES]
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
    assert len({round(value, 3) for value in expected}) == len(expected), "an easy test"
    copies = [len(ids) - 2 for ids in tokenizer(SENTENCES)["input_ids"]]
    assert sum(done) == sum(copies)
    if batch_pieces == 1:
        assert done == [1] * sum(copies)


def test_order_does_not_matter(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    forwards = pseudo_log_likelihood(model, tokenizer, SENTENCES, batch_pieces=90)
    backwards = pseudo_log_likelihood(model, tokenizer, SENTENCES[::-1], batch_pieces=90)
    np.testing.assert_allclose(forwards, backwards[::-1], atol=1e-4)
    twice = pseudo_log_likelihood(model, tokenizer, [SENTENCES[0]] * 2)
    assert twice[0] == twice[1]


def test_padding_that_is_not_piece_zero(tokenizer: PreTrainedTokenizerFast) -> None:
    """RoBERTa counts its positions from the padding piece, which is not number 0."""
    torch.manual_seed(0)
    size = len(tokenizer)
    config = RobertaConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=60, pad_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    model = RobertaForMaskedLM(config).eval()
    expected = [one_mask_at_a_time(model, tokenizer, sentence) for sentence in SENTENCES]
    known = [i for i, ids in enumerate(tokenizer(SENTENCES)["input_ids"]) if 1 not in ids]
    assert len(known) >= 4
    got = pseudo_log_likelihood(model, tokenizer, [SENTENCES[i] for i in known])
    np.testing.assert_allclose(got, [expected[i] for i in known], atol=1e-4, rtol=0)


def test_sentences_that_cannot_be_scored(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    long = "the " * 39
    with pytest.raises(ValueError, match=r"sentence 2 has 39 pieces; .*1 to 38: 'the the"):
        pseudo_log_likelihood(model, tokenizer, ["dog", long])
    with pytest.raises(ValueError, match="sentence 1 has 0 pieces"):
        pseudo_log_likelihood(model, tokenizer, [" ", "dog"])
    assert pseudo_log_likelihood(model, tokenizer, ["the " * 38]).shape == (1,)


def test_a_tie_counts_half() -> None:
    good, bad = np.array([-1.0, -2.0, -3.0, -4.0]), np.array([-2.0, -2.0, -2.0, -4.0])
    assert accuracy(good, bad) == (1 + 0.5 + 0 + 0.5) / 4


def test_paradigms_are_scored_apart(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    pairs = {
        "b": [("the dog sees", "dog the sees"), ("a cat", "cat a"), ("a king", "a king")],
        "a": iter([("the unforgettable tree .", "that letter")]),
    }
    wanted = {
        name: [tuple(one_mask_at_a_time(model, tokenizer, s) for s in pair) for pair in rows]
        for name, rows in (
            ("b", pairs["b"]),
            ("a", [("the unforgettable tree .", "that letter")]),
        )
    }
    scores = score_paradigms(model, tokenizer, pairs)
    assert list(scores) == ["b", "a"]
    for name, rows in wanted.items():
        margins = [good - bad for good, bad in rows]
        points = [1.0 if m > 1e-9 else 0.5 if abs(m) < 1e-9 else 0.0 for m in margins]
        assert scores[name]["n"] == len(rows)
        assert scores[name]["accuracy"] == pytest.approx(sum(points) / len(rows))
        assert scores[name]["margin"] == pytest.approx(sum(margins) / len(rows), abs=1e-4)
    assert (scores["b"]["ties"], scores["a"]["ties"]) == (1, 0)


def test_a_paradigm_without_pairs_is_an_error_not_a_nan(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ValueError, match="no minimal pairs in y, z"):
        score_paradigms(model, tokenizer, {"x": [("a dog", "dog a")], "y": [], "z": []})


def test_the_measure_is_the_mean_over_paradigms(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    pairs = {"x": [("the dog", "dog the")] * 3, "y": [("a king", "a king")]}
    rows = pairs_measure(pairs)(model, tokenizer)
    values = {(row["metric"], row.get("detail")): row["value"] for row in rows}
    own = [values["paradigm_accuracy", name] for name in ("x", "y")]
    assert own[1] == 0.5 and own[0] in (0.0, 1.0)
    assert values["pairs_accuracy", None] == sum(own) / 2


def test_the_bigram_level_of_pairs(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    """A model of neighbours knows a sentence from its mirror image; a tie counts half."""
    bigram = BigramModel.fit(
        encode(texts, tokenizer), tokenizer.all_special_ids, len(tokenizer)
    )
    good = [text.removesuffix(" .") for text in texts[:30]]
    local = [(text, " ".join(reversed(text.split()))) for text in good]
    tied = [(text, text) for text in good]

    def level(pairs: dict[str, list[tuple[str, str]]]) -> float:
        (row,) = bigram_pairs_measure(bigram, tokenizer, pairs)(model, tokenizer)
        assert row["metric"] == "pairs_accuracy_bigram"
        return float(row["value"])

    assert level({"local": local}) == 1
    assert level({"turned": [(bad, good) for good, bad in local]}) == 0
    assert level({"local": local, "tied": tied[:3]}) == 0.75  # paradigms weigh the same


# --- pairs from files -----------------------------------------------------------------


def test_read_pairs(tmp_path: Path) -> None:
    line = '{"sentence_good": "a dog sleeps", "sentence_bad": "a dog sleep", "UID": "x"}\n'
    (tmp_path / "agreement.jsonl").write_text(line * 3)
    (tmp_path / "binding.jsonl").write_text(line)
    assert read_pairs(tmp_path) == {
        "agreement": [("a dog sleeps", "a dog sleep")] * 3,
        "binding": [("a dog sleeps", "a dog sleep")],
    }
    assert len(read_pairs(tmp_path, limit=2)["agreement"]) == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"sentence_good": "a"}\n', "line 1: no minimal pair"),
        ("not json\n", "line 1: no minimal pair"),
        ("[1, 2]\n", "line 1: no minimal pair"),
        ('{"sentence_good": 1, "sentence_bad": "b"}\n', "line 1: no minimal pair"),
        ("", "no minimal pair in this file"),
    ],
)
def test_malformed_pairs(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "broken.jsonl").write_text(content)
    with pytest.raises(ValueError, match=f"broken.jsonl.*{complaint}"):
        read_pairs(tmp_path)


def test_a_folder_without_pairs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \.jsonl file"):
        read_pairs(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_pairs(tmp_path / "none")


def test_reads_blimp(sas_data: Path) -> None:
    pairs = read_pairs(sas_data / "blimp" / "data")
    assert len(pairs) == 67
    assert all(len(of_paradigm) == 1000 for of_paradigm in pairs.values())
    # BLiMP itself has pairs of one and the same sentence; they are ties.
    alike = sum(good == bad for of_paradigm in pairs.values() for good, bad in of_paradigm)
    assert alike == 7
