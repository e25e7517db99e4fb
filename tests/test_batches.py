"""Batches that are cut out on the device, against batches put together sentence by sentence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from sas_lib.batches import MaskedBatch, ResidentCorpus, step_generator
from sas_lib.corpus import NO_HEAD, EncodedCorpus, encode
from sas_lib.learner import share
from sas_lib.treebank import ROOT, Sentence

CPU = torch.device("cpu")
SHORT = Sentence(("a", "king", "helps"), (1, 2, ROOT), ("det", "nsubj", "root"))
CHOICES = [[0, 1, 2, 3], [5, 3], [4], [7, 0, 7, 1, 6]]


@pytest.fixture(scope="module")
def mixed(tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence]) -> EncodedCorpus:
    """Sentences of several lengths; the third is plain text and has no heads."""
    chosen = [sentences[0], SHORT, "the old wheelbarrow", *sentences[100:800:160]]
    return encode(chosen, tokenizer)


def resident(
    corpus: EncodedCorpus, tokenizer: PreTrainedTokenizerFast, rate: float = 0.3
) -> ResidentCorpus:
    return ResidentCorpus(corpus, tokenizer, CPU, rate)


def unmasked(batch: MaskedBatch) -> list[list[int]]:
    ids = batch.input_ids.clone().flatten()
    ids[batch.positions] = batch.labels
    return ids.view_as(batch.input_ids).tolist()


@pytest.mark.parametrize("numbers", CHOICES)
def test_a_resident_batch_is_its_sentences(
    mixed: EncodedCorpus, tokenizer: PreTrainedTokenizerFast, numbers: list[int]
) -> None:
    """By plain lists: the pieces, what is no padding, and the heads of each sentence."""
    batch = resident(mixed, tokenizer).batch(np.array(numbers), step_generator(0, 3))
    rows = []
    for number in numbers:
        a, b = int(mixed.starts[number]), int(mixed.starts[number + 1])
        assert mixed.heads is not None
        rows.append((mixed.pieces[a:b].tolist(), mixed.heads[a:b].tolist()))
    longest = max(len(pieces) for pieces, _ in rows)
    pad, real = tokenizer.pad_token_id, sum(len(pieces) for pieces, _ in rows)
    assert unmasked(batch) == [p + [pad] * (longest - len(p)) for p, _ in rows]
    assert batch.heads.tolist() == [h + [NO_HEAD] * (longest - len(h)) for _, h in rows]
    assert batch.attention_mask.tolist() == [
        [1] * len(p) + [0] * (longest - len(p)) for p, _ in rows
    ]
    assert batch.tokens == real
    for tensor in (batch.input_ids, batch.attention_mask, batch.heads, batch.labels):
        assert tensor.dtype == torch.int64


@pytest.mark.parametrize("numbers", CHOICES)
def test_a_resident_batch_is_the_corpus_own(
    mixed: EncodedCorpus, tokenizer: PreTrainedTokenizerFast, numbers: list[int]
) -> None:
    batch = resident(mixed, tokenizer).batch(np.array(numbers), step_generator(0, 3))
    own = mixed.batch(numbers, tokenizer.pad_token_id)
    assert unmasked(batch) == own["input_ids"].tolist()
    assert torch.equal(batch.attention_mask, own["attention_mask"])
    assert torch.equal(batch.heads, own["heads"])


def test_heads_are_those_of_the_words(
    mixed: EncodedCorpus, tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence]
) -> None:
    """The links of a batch, read back as words, are the arcs of the sentence."""
    split = False
    chosen = [sentences[0], SHORT, *sentences[100:800:160]]
    numbers = np.array([0, 1, *range(3, len(mixed))])
    batch = resident(mixed, tokenizer).batch(numbers, step_generator(0, 3))
    for row, sentence in enumerate(chosen):
        firsts = [1]
        for word in sentence.words[:-1]:
            firsts.append(firsts[-1] + len(tokenizer.tokenize(word)))
        split |= firsts != list(range(1, 1 + len(sentence)))
        linked = {(i, h) for i, h in enumerate(batch.heads[row].tolist()) if h != NO_HEAD}
        assert linked == {
            (firsts[word], firsts[head])
            for word, head in enumerate(sentence.heads)
            if head != ROOT
        }
    assert split, "words of several pieces occur"


def test_a_corpus_without_heads_has_no_links(
    mixed: EncodedCorpus, tokenizer: PreTrainedTokenizerFast
) -> None:
    plain = dataclasses.replace(mixed, heads=None)
    batch = resident(plain, tokenizer).batch(np.array([0, 1, 2]), step_generator(0, 3))
    assert (batch.heads == NO_HEAD).all()
    with_heads = resident(mixed, tokenizer).batch(np.array([0, 1, 2]), step_generator(0, 3))
    assert torch.equal(batch.input_ids, with_heads.input_ids)
    assert (with_heads.heads[2] == NO_HEAD).all(), "the plain sentence among parsed ones"
    assert (with_heads.heads[:2] >= 0).any(1).all()


@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_masking_in_a_resident_batch(
    mixed: EncodedCorpus, tokenizer: PreTrainedTokenizerFast, rate: float
) -> None:
    corpus = resident(mixed, tokenizer, rate)
    numbers = np.array([7, 0, 5, 1, 6, 3])
    ordinary = int(mixed.lengths[numbers].sum()) - 2 * len(numbers)
    special = set(tokenizer.all_special_ids)
    kept = 0
    for step in range(40):
        batch = corpus.batch(numbers, step_generator(4, step))
        assert len(batch.labels) == len(batch.positions) == round(rate * ordinary)
        assert batch.positions.tolist() == sorted(set(batch.positions.tolist()))
        assert not special & set(batch.labels.tolist()), "[CLS], [SEP], [PAD] stay"
        own = mixed.batch(numbers, tokenizer.pad_token_id)["input_ids"].flatten()
        assert torch.equal(own[batch.positions], batch.labels)
        changed = (own != batch.input_ids.flatten()).nonzero().flatten().tolist()
        assert set(changed) <= set(batch.positions.tolist())
        kept += len(batch.labels) - len(changed)
        again = corpus.batch(numbers, step_generator(4, step))
        assert torch.equal(batch.input_ids, again.input_ids)
    assert 0.02 < kept / (40 * round(rate * ordinary)) < 0.25, "about a tenth stays visible"


@pytest.mark.parametrize("size", [2, 3])
def test_shares_are_the_batch(
    mixed: EncodedCorpus, tokenizer: PreTrainedTokenizerFast, size: int
) -> None:
    """Each row, with its own masked pieces, is in the share of exactly one process."""
    whole = resident(mixed, tokenizer).batch(np.array([7, 0, 5, 1, 6, 3]), step_generator(1, 1))
    length = whole.input_ids.shape[1]
    places: list[tuple[int, int, int]] = []
    for rank in range(size):
        part = share(whole, rank, size)
        assert part.tokens == whole.tokens, "tokens are counted over all processes"
        for row, own in enumerate(range(rank, 6, size)):
            assert torch.equal(part.input_ids[row], whole.input_ids[own])
            assert torch.equal(part.attention_mask[row], whole.attention_mask[own])
            assert torch.equal(part.heads[row], whole.heads[own])
        for place, label in zip(part.positions.tolist(), part.labels.tolist(), strict=True):
            places.append((place // length * size + rank, place % length, label))
    expected = [
        (place // length, place % length, label)
        for place, label in zip(whole.positions.tolist(), whole.labels.tolist(), strict=True)
    ]
    assert sorted(places) == sorted(expected)
