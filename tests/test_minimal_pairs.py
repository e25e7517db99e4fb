"""Pseudo-log-likelihood against one mask at a time, and the scoring of pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from sas_lib import minimal_pairs
from sas_lib.corpus import encode
from sas_lib.measures import bigram_pairs_measure, pairs_measure
from sas_lib.minimal_pairs import (
    Method,
    accuracy,
    each_paradigm,
    pseudo_log_likelihood,
    score_paradigms,
    stream_scores,
)
from sas_lib.ngrams import BigramModel

SENTENCES = [
    "the dog sees that tree .",
    "a nightingale misunderstands the unforgettable king .",
    "helps",
    "the cat , the cat !",
    "the zebra sees that tree .",  # holds letters that the tokenizer does not know
    "Dog",
]


METHODS: list[Method] = ["pll", "within_word_l2r"]


def words_by_eye(tokenizer: PreTrainedTokenizerFast, sentence: str) -> list[int]:
    """The word of each piece, from the characters it covers: letters that touch are a word,
    and so are their neighbours such as a comma. It asks the tokenizer for offsets only."""
    spans = [match.span() for match in re.finditer(r"\w+|[^\w\s]", sentence)]
    encoded = tokenizer(sentence, return_offsets_mapping=True)
    # Byte-level pieces begin with, or are, the space before their word.
    return [
        next(n for n, (_, end) in enumerate(spans) if last <= end)
        for _, last in encoded["offset_mapping"][1:-1]
    ]


def one_mask_at_a_time(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentence: str,
    method: Method = "pll",
) -> float:
    """The definition, with the whole model's logits and no batches."""
    ids = tokenizer(sentence, return_tensors="pt")["input_ids"]
    words = words_by_eye(tokenizer, sentence)
    total = 0.0
    for position in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, position] = tokenizer.mask_token_id
        for later in range(position + 1, ids.shape[1] - 1):
            if method == "within_word_l2r" and words[later - 1] == words[position - 1]:
                masked[0, later] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(input_ids=masked).logits[0, position].double()
        total += float(logits.log_softmax(-1)[ids[0, position]])
    return total


@pytest.fixture(scope="module")
def byte_level(texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer as RoBERTa's: pieces of bytes, the space before a word part of its first
    piece; so few of them that words split."""
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(texts, vocab_size=300, special_tokens=special)
    trained.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token="<s>", cls_token="<s>",
        pad_token="<pad>", eos_token="</s>", sep_token="</s>", unk_token="<unk>",
        mask_token="<mask>",
    )  # fmt: skip


@pytest.fixture(params=["bert", "roberta"])
def any_model(
    request: pytest.FixtureRequest,
    tokenizer: PreTrainedTokenizerFast,
    byte_level: PreTrainedTokenizerFast,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Random models with weights so large that each masked piece matters for the others.

    RoBERTa counts its positions from the padding piece, which is not number 0.
    """
    torch.manual_seed(0)
    used = tokenizer if request.param == "bert" else byte_level
    shape = {
        "vocab_size": len(used),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 60,
        "initializer_range": 0.3,
    }
    if request.param == "bert":
        return BertForMaskedLM(BertConfig(**shape)).eval(), used
    return RobertaForMaskedLM(RobertaConfig(**shape, pad_token_id=1)).eval(), used


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch_pieces", [1, 60, 8192])
def test_pll_is_the_brute_force(
    any_model: tuple[PreTrainedModel, PreTrainedTokenizerFast],
    batch_pieces: int,
    method: Method,
) -> None:
    model, tokenizer = any_model
    done: list[int] = []
    got = pseudo_log_likelihood(
        model, tokenizer, SENTENCES, batch_pieces, progress=done.append, method=method
    )
    expected = [one_mask_at_a_time(model, tokenizer, s, method) for s in SENTENCES]
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
    assert len({round(value, 3) for value in expected}) == len(expected), "an easy test"
    assert sum(done) == len(SENTENCES)
    if batch_pieces == 1:
        copies = [len(ids) - 2 for ids in tokenizer(SENTENCES)["input_ids"]]
        assert len(done) == sum(copies) and max(done) == 1


def test_the_methods_differ_only_in_words_of_several_pieces(
    any_model: tuple[PreTrainedModel, PreTrainedTokenizerFast],
) -> None:
    model, tokenizer = any_model
    sentences = [*SENTENCES, "that that"]
    words = [len(set(words_by_eye(tokenizer, s))) for s in sentences]
    pieces = [len(ids) - 2 for ids in tokenizer(sentences)["input_ids"]]
    plain, strict = (
        pseudo_log_likelihood(model, tokenizer, sentences, method=method) for method in METHODS
    )
    alike = np.isclose(plain, strict, atol=1e-4, rtol=0)
    assert alike.tolist() == [n == m for n, m in zip(pieces, words, strict=True)]


@pytest.mark.parametrize("method", METHODS)
def test_pll_is_that_of_minicons(
    any_model: tuple[PreTrainedModel, PreTrainedTokenizerFast],
    texts: list[str],
    method: Method,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another library's code, given back the method that transformers 5 took from it."""
    from minicons.scorer import MaskedLMScorer

    model, tokenizer = any_model
    kind = type(tokenizer)
    monkeypatch.setattr(kind, "batch_encode_plus", kind.__call__, raising=False)
    scorer = MaskedLMScorer(model, "cpu", tokenizer=tokenizer)
    sentences = [*texts[:200:10], *SENTENCES]
    theirs = scorer.sequence_score(
        sentences,
        reduction=lambda scores: scores.sum().item(),
        PLL_metric="original" if method == "pll" else method,
    )
    ours = pseudo_log_likelihood(model, tokenizer, sentences, method=method)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


def test_an_unknown_method(model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match=r"no method 'l2r'; there are pll, within_word_l2r"):
        pseudo_log_likelihood(model, tokenizer, ["a dog"], method="l2r")  # type: ignore


def test_order_does_not_matter(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    forwards = pseudo_log_likelihood(model, tokenizer, SENTENCES, batch_pieces=90)
    backwards = pseudo_log_likelihood(model, tokenizer, SENTENCES[::-1], batch_pieces=90)
    np.testing.assert_allclose(forwards, backwards[::-1], atol=1e-4)
    twice = pseudo_log_likelihood(model, tokenizer, [SENTENCES[0]] * 2)
    assert twice[0] == twice[1]


def test_memory_does_not_grow_with_the_number_of_sentences(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sentences are read a window at a time, and batches are bounded in pieces."""
    monkeypatch.setattr(minimal_pairs, "WINDOW", 8)
    shapes: list[tuple[int, int]] = []
    scored = minimal_pairs.logits_at

    def spy(model: PreTrainedModel, ids: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        shapes.append((ids.shape[0], ids.shape[1]))
        return scored(model, ids, *rest)

    monkeypatch.setattr(minimal_pairs, "logits_at", spy)
    read = 0

    def source() -> Iterator[str]:
        nonlocal read
        for text in texts[:60]:
            read += 1
            yield text

    got = []
    for number, score in enumerate(stream_scores(model, tokenizer, source(), 200), start=1):
        assert read <= -(-number // 8) * 8
        got.append(score)
    assert max(rows * length for rows, length in shapes) <= 200 and len(shapes) > 30
    monkeypatch.undo()
    whole = pseudo_log_likelihood(model, tokenizer, texts[:60])
    np.testing.assert_allclose(got, whole, atol=1e-4, rtol=0)


def test_what_has_the_same_pieces_is_an_exact_tie(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    """Rounding differs from batch to batch, and must not decide a pair of equals."""
    unknown = ("the zebra sees", "the zebrx sees")  # letters that the tokenizer does not know
    assert tokenizer(unknown[0])["input_ids"] == tokenizer(unknown[1])["input_ids"]
    pairs = [(text, text) for text in texts[:20]] + [unknown]
    rows = dict(each_paradigm(model, tokenizer, {"same": pairs}))
    assert rows["same"]["ties"] == 21 and rows["same"]["accuracy"] == 0.5
    done: list[int] = []
    sentences = [sentence for pair in pairs for sentence in pair]
    scores = pseudo_log_likelihood(model, tokenizer, sentences, 60, done.append)
    assert (scores[::2] == scores[1::2]).all() and sum(done) == len(sentences)


def test_paradigms_come_as_they_are_scored(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes before a sentence that cannot be scored is not lost."""
    monkeypatch.setattr(minimal_pairs, "WINDOW", 4)
    pairs = {"a": [(texts[0], texts[1])] * 2, "b": [("the " * 50, texts[1])]}
    rows = each_paradigm(model, tokenizer, pairs)
    assert next(rows)[0] == "a"
    with pytest.raises(ValueError, match="sentence 5 has 50 pieces"):
        next(rows)


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


@pytest.mark.parametrize("method", METHODS)
def test_paradigms_are_scored_apart(
    any_model: tuple[PreTrainedModel, PreTrainedTokenizerFast], method: Method
) -> None:
    model, tokenizer = any_model
    pairs = {
        "b": [("the dog sees", "dog the sees"), ("a cat", "cat a"), ("a king", "a king")],
        "a": iter([("the unforgettable tree .", "that letter")]),
    }
    wanted = {
        name: [
            tuple(one_mask_at_a_time(model, tokenizer, s, method) for s in pair)
            for pair in rows
        ]
        for name, rows in (
            ("b", pairs["b"]),
            ("a", [("the unforgettable tree .", "that letter")]),
        )
    }
    scores = score_paradigms(model, tokenizer, pairs, method=method)
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
    assert not any(metric == "pair_margin" for metric, _ in values)


def test_the_measure_gives_single_margins(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    pairs = {"x": [("the dog", "dog the"), ("a cat", "cat a")] * 2, "y": [("a king", "king a")]}
    rows = pairs_measure(pairs, single=2)(model, tokenizer)
    margins = {r["detail"]: r["value"] for r in rows if r["metric"] == "pair_margin"}
    assert set(margins) == {"x:0", "x:1", "y:0"}
    for name, (good, bad) in {"x:0": pairs["x"][0], "x:1": pairs["x"][1]}.items():
        alone = [one_mask_at_a_time(model, tokenizer, s, "pll") for s in (good, bad)]
        assert margins[name] == pytest.approx(alone[0] - alone[1], abs=0.05)  # bfloat16


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
