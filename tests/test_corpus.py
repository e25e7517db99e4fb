"""Sentences, pieces, batches, masks and the two entropies."""

from __future__ import annotations

import lzma
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sas_lib.batches import length_batches, mask_pieces, step_generator
from sas_lib.corpus import (
    NO_HEAD,
    SPECIAL_TOKENS,
    EncodedCorpus,
    encode,
    heads_to_pieces,
    train_tokenizer,
)
from sas_lib.ngrams import BigramModel, bigram_cross_entropy, unigram_entropy
from sas_lib.text import CorpusError, read_text, split_sentences
from sas_lib.treebank import ROOT, Sentence

# --- text -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("It rains. We stay in.", ["It rains.", "We stay in."]),
        ("Really? Yes! Good.", ["Really?", "Yes!", "Good."]),
        ("Dr. Ames met Mrs. Bell. They spoke.", ["Dr. Ames met Mrs. Bell.", "They spoke."]),
        ("J. S. Bach wrote it. Who else?", ["J. S. Bach wrote it.", "Who else?"]),
        ("It cost 3.50 in all. Cheap.", ["It cost 3.50 in all.", "Cheap."]),
        ("He said “Go.” She went.", ["He said “Go.”", "She went."]),
        ("See the list (below). Then go.", ["See the list (below).", "Then go."]),
        ("Wait... what? No.", ["Wait... what?", "No."]),
        ("Several, e.g. Paris and Rome. Go!", ["Several, e.g. Paris and Rome.", "Go!"]),
        ("See page 5. Then go on.", ["See page 5.", "Then go on."]),
        ("It ended in 1945. 12 years passed.", ["It ended in 1945.", "12 years passed."]),
        ("no capital. follows here", ["no capital. follows here"]),
        ("one sentence without an end", ["one sentence without an end"]),
        ("", []),
        ("   ", []),
    ],
)
def test_split_sentences(paragraph: str, expected: list[str]) -> None:
    assert list(split_sentences(paragraph)) == expected


@given(st.text(alphabet="aB1.!? \"'()", max_size=60))
def test_splitting_loses_nothing_but_white_space(paragraph: str) -> None:
    joined = "".join(split_sentences(paragraph))
    assert re.sub(r"\s", "", joined) == re.sub(r"\s", "", paragraph)


def test_read_text_plain_and_xz(tmp_path: Path) -> None:
    text = "A heading\n\nThe first one is here. And a second one. Short.\nCafé is the third.\n"
    expected = ["The first one is here.", "And a second one.", "Café is the third."]
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(text.encode()))
    assert list(read_text(tmp_path / "a.txt")) == expected
    assert list(read_text(tmp_path / "a.txt.xz")) == expected


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "empty.txt"),
        (b"Too short.\n", "short.txt"),
        (b"latin-1 caf\xe9 in this one.\n", "latin.txt"),
        (lzma.compress(b"A whole sentence is here. " * 999)[:-30], "cut.txt.xz"),
        (b"not compressed at all", "plain.txt.xz"),
    ],
)
def test_text_that_cannot_be_used(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=re.escape(name)):
        list(read_text(tmp_path / name))


# --- tokenizer ------------------------------------------------------------------------


def test_a_saved_tokenizer_gives_the_same_ids(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.is_fast
    assert again(texts[:50])["input_ids"] == tokenizer(texts[:50])["input_ids"]
    assert again.get_vocab() == tokenizer.get_vocab()
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert getattr(again, f"{name}_token") == getattr(tokenizer, f"{name}_token")


def test_pieces_are_berts(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer("The KING sees a nightingale.").tokens()
    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    assert tokens[1] == "the"
    assert len(tokens) > 8, "no word is split: this vocabulary tests nothing"
    assert "".join(t.removeprefix("##") for t in tokens[1:-1]) == "thekingseesanightingale."
    assert [tokenizer.convert_tokens_to_ids(t) for t in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 4]
    assert tokenizer("a cat", "a dog").tokens().count("[SEP]") == 2
    assert tokenizer.decode(tokenizer("an old king").input_ids, skip_special_tokens=True) == (
        "an old king"
    )


def test_vocabulary_is_as_large_as_asked_and_never_larger(texts: list[str]) -> None:
    exotic = [*texts, " ".join(chr(0x4E00 + i) for i in range(500)), "naïve Ωmega café"]
    for size in (60, 100, 150):
        assert len(train_tokenizer(exotic, size)) == size
    small = train_tokenizer(["a b", "b a"], 1000)
    assert len(small) == 7
    assert max(small.get_vocab().values()) == 6


def test_rare_characters_are_unknown_and_frequent_ones_known() -> None:
    texts = ["abc bca cab"] * 9 + ["abc xyz"]
    tokenizer = train_tokenizer(texts, 12)  # room for the four commonest characters
    assert tokenizer.tokenize("cab") != ["[UNK]"]
    assert tokenizer.tokenize("z") == ["[UNK]"]


def test_the_same_texts_give_the_same_vocabulary(
    texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    # The trainer's hash maps are seeded anew each time: left alone, no two runs agree.
    for _ in range(5):
        assert train_tokenizer(iter(texts), 90).get_vocab() == tokenizer.get_vocab()


# --- heads and encoding ---------------------------------------------------------------


def test_heads_to_pieces_by_hand() -> None:
    #          [CLS]  the  un  ##kind  king  sees  me  [SEP]
    # word:           0    1   1       2     3     4
    # head:           2    2           3     root  3
    carried = heads_to_pieces([2, 2, 3, ROOT, 3], [None, 0, 1, 1, 2, 3, 4, None])
    assert carried == [NO_HEAD, 4, 4, NO_HEAD, 5, NO_HEAD, 5, NO_HEAD]


def test_heads_to_pieces_where_words_are_missing() -> None:
    # Word 1, the head of word 0, has no piece; word 3 was cut off.
    assert heads_to_pieces([1, 2, ROOT, 2], [None, 0, 2, None]) == [NO_HEAD] * 4


def test_encode_carries_heads_and_cuts(tokenizer: PreTrainedTokenizerFast) -> None:
    parsed = Sentence(
        ("the", "nightingale", "sees", "a", "tree"),
        (1, 2, ROOT, 4, 2),
        ("det", "nsubj", "root", "det", "obj"),
    )
    whole = encode([parsed], tokenizer)
    ids = tokenizer(list(parsed.words), is_split_into_words=True)
    assert whole.pieces.tolist() == ids["input_ids"]
    words = ids.word_ids()
    assert whole.heads is not None
    first = {word: words.index(word) for word in range(5)}
    for word, head in enumerate(parsed.heads):
        expected = NO_HEAD if head == ROOT else first[head]
        assert whole.heads[first[word]] == expected
    assert (whole.heads != NO_HEAD).sum() == 4

    limit = first[4] + 1  # [SEP] takes the place of "tree"
    cut = encode([parsed], tokenizer, max_length=limit)
    assert cut.lengths.tolist() == [limit]
    assert cut.pieces[-1] == tokenizer.sep_token_id
    assert cut.heads is not None and cut.heads[first[3]] == NO_HEAD  # its head was cut off
    assert cut.heads[first[1]] == first[2]
    assert cut.heads.max() < limit


def test_encode_mixes_parsed_and_plain(
    tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence], texts: list[str]
) -> None:
    mixed = [sentences[0], texts[1], texts[2], sentences[3]]
    corpus = encode(mixed, tokenizer, chunk=2)
    assert len(corpus) == 4
    for i in range(4):
        pieces = corpus.pieces[corpus.starts[i] : corpus.starts[i + 1]]
        assert pieces.tolist() == tokenizer(texts[i])["input_ids"]
    batch = corpus.batch([0, 1], tokenizer.pad_token_id)
    assert (batch["heads"][0] != NO_HEAD).sum() == len(sentences[0]) - 1
    assert (batch["heads"][1] != NO_HEAD).sum() == 0
    assert encode(texts[:3], tokenizer).heads is None
    with pytest.raises(CorpusError, match="no sentence"):
        encode([], tokenizer)


def test_encode_does_not_depend_on_chunks(
    tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence]
) -> None:
    one, other = (encode(sentences[:20], tokenizer, chunk=c) for c in (3, 4096))
    assert np.array_equal(one.pieces, other.pieces)
    assert np.array_equal(one.starts, other.starts)
    assert one.heads is not None and other.heads is not None
    assert np.array_equal(one.heads, other.heads)


def test_a_batch_is_padded() -> None:
    corpus = EncodedCorpus(
        pieces=np.array([2, 9, 3, 2, 7, 8, 6, 3], dtype=np.int32),
        starts=np.array([0, 3, 8]),
        heads=np.array([-1, -1, -1, -1, 2, -1, 2, -1], dtype=np.int16),
    )
    batch = corpus.batch([1, 0], pad_id=0)
    assert batch["input_ids"].tolist() == [[2, 7, 8, 6, 3], [2, 9, 3, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["heads"].tolist() == [[-1, 2, -1, 2, -1], [-1] * 5]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    assert len(corpus) == 2 and corpus.lengths.tolist() == [3, 5]


# --- batches --------------------------------------------------------------------------


@given(
    st.lists(st.integers(3, 60), min_size=7, max_size=400),
    st.integers(1, 7),
    st.integers(0, 9),
)
def test_each_sentence_at_most_once_an_epoch(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    batches = length_batches(np.array(lengths), batch_size, seed, epoch=0)
    assert batches.shape == (len(lengths) // batch_size, batch_size)
    drawn = batches.reshape(-1).tolist()
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(len(lengths)))


def test_batches_repeat_with_the_seed_and_differ_with_the_epoch() -> None:
    lengths = np.random.default_rng(0).integers(3, 40, 5000)
    batches = length_batches(lengths, 16, seed=1, epoch=2)
    assert np.array_equal(batches, length_batches(lengths, 16, seed=1, epoch=2))
    assert not np.array_equal(batches, length_batches(lengths, 16, seed=1, epoch=3))
    assert not np.array_equal(batches, length_batches(lengths, 16, seed=2, epoch=2))
    longest = lengths[batches].max(1)
    padded = 1 - lengths[batches].sum() / (longest * 16).sum()
    assert padded < 0.05, "batches of like length are hardly padded"
    # Within a pool of 50 batches, too, long and short batches come in turn...
    longest = lengths[length_batches(lengths[:800], 16, seed=1, epoch=0)].max(1)
    assert len(longest) == 50
    assert abs(np.corrcoef(np.arange(50), longest)[0, 1]) < 0.4
    # ... and sentences that stand together in the corpus are not learnt together.
    apart = np.abs(np.diff(length_batches(np.full(5000, 9), 16, seed=1, epoch=0)))
    assert np.median(apart) > 300


def test_the_remainder_is_not_always_the_longest() -> None:
    lengths = np.arange(3, 38)
    seen = set()
    for epoch in range(20):
        seen |= set(length_batches(lengths, 16, seed=0, epoch=epoch).reshape(-1).tolist())
    assert seen == set(range(35))


def test_too_few_sentences_for_a_batch() -> None:
    with pytest.raises(CorpusError, match="3 sentences are fewer than one batch of 4"):
        length_batches(np.array([5, 5, 5]), 4, 0, 0)


# --- masking --------------------------------------------------------------------------

SPECIAL, MASK, VOCABULARY = [0, 1, 2, 3, 4], 4, 205


def random_batch(rows: int, length: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (rows, length), generator=generator)
    ids[:, 0], ids[:, -1] = 2, 3
    ids[::2, 30], ids[::2, 31:] = 3, 0  # every other row ends early and is padded
    ids[1, 7] = 1
    return ids


def test_masking_statistics() -> None:
    ids = random_batch(2000)
    ordinary = int((ids > 4).sum())
    masked, positions, labels = mask_pieces(
        ids, SPECIAL, MASK, VOCABULARY, step_generator(0, 0)
    )
    chosen = len(positions)
    assert chosen == round(0.15 * ordinary)
    flat, hidden = ids.reshape(-1), masked.reshape(-1)
    assert (positions.diff() > 0).all()
    assert torch.equal(labels, flat[positions])
    assert (labels > 4).all(), "a special token was chosen"
    elsewhere = torch.ones(len(flat), dtype=torch.bool)
    elsewhere[positions] = False
    assert torch.equal(hidden[elsewhere], flat[elsewhere])
    now = hidden[positions]
    assert ((now == MASK) | (now > 4)).all(), "a special token was put in"
    # A random piece is the old one in 1 of 200 cases.
    for count, share in (
        ((now == MASK).sum(), 0.8),
        ((now == labels).sum(), 0.1 + 0.1 / 200),
        (((now != MASK) & (now != labels)).sum(), 0.1 - 0.1 / 200),
    ):
        assert abs(int(count) - share * chosen) < 4 * math.sqrt(chosen * share * (1 - share))
    random_pieces = now[(now != MASK) & (now != labels)]
    assert random_pieces.min() < 5 + 20 and random_pieces.max() >= VOCABULARY - 20


def test_every_ordinary_position_is_chosen_alike() -> None:
    ids = random_batch(4, 40)
    times = torch.zeros(ids.numel())
    for step in range(2000):
        _, positions, _ = mask_pieces(ids, SPECIAL, MASK, VOCABULARY, step_generator(3, step))
        times[positions] += 1
    ordinary = ids.reshape(-1) > 4
    assert (times[~ordinary] == 0).all()
    expected = 2000 * round(0.15 * int(ordinary.sum())) / int(ordinary.sum())
    deviation = math.sqrt(expected * 0.85)
    assert (times[ordinary] - expected).abs().max() < 4.5 * deviation


def test_masks_depend_on_seed_and_step_alone() -> None:
    ids = random_batch(8, 40)

    def mask(seed: int, step: int) -> torch.Tensor:
        return mask_pieces(ids, SPECIAL, MASK, VOCABULARY, step_generator(seed, step))[0]

    first = mask(1, 7)
    torch.manual_seed(99)
    torch.rand(5)
    assert torch.equal(mask(1, 7), first)
    assert not torch.equal(mask(1, 8), first)
    assert not torch.equal(mask(2, 7), first)
    assert not torch.equal(mask(7, 1), first)
    assert (ids != first).any() and torch.equal(ids, random_batch(8, 40)), "input was changed"


@pytest.mark.parametrize("rate", [0.01, 0.15, 0.5, 1.0])
def test_mask_rate(rate: float) -> None:
    ids = torch.tensor([[2, 9, 8, 7, 3]])
    _, positions, labels = mask_pieces(
        ids, SPECIAL, MASK, VOCABULARY, step_generator(0, 0), rate
    )
    assert len(positions) == len(labels) == max(1, round(rate * 3))
    assert set(positions.tolist()) <= {1, 2, 3}


# --- floors ---------------------------------------------------------------------------

S = [0, 1, 2, 3, 4]


def corpus_of(*rows: list[int]) -> EncodedCorpus:
    framed = [[2, *row, 3] for row in rows]
    return EncodedCorpus(
        pieces=np.concatenate(framed).astype(np.int32),
        starts=np.cumsum([0, *map(len, framed)]),
    )


def test_unigram_entropy_by_hand() -> None:
    # Four of 5, two of 6, one of 7, one of 8: 4/8 log 2 + 2/8 log 4 + 2/8 log 8 = 1.75 log 2.
    corpus = corpus_of([5, 5, 6, 7], [8, 6, 5, 5])
    assert unigram_entropy(corpus, S) == pytest.approx(1.75 * math.log(2))


def witten_bell(
    train: list[list[int]], valid: list[list[int]], size: int
) -> tuple[float, dict[tuple[int, int], float]]:
    """Interpolated bigrams in plain dictionaries; also p(w | v) for each v in ``valid``."""
    pairs: Counter[tuple[int, int]] = Counter()
    words: Counter[int] = Counter()
    for row in train:
        words.update(w for w in row if w not in S)
        pairs.update((v, w) for v, w in zip([2, *row], row, strict=False) if w not in S)
    unigram = {w: (words[w] + 1) / (sum(words.values()) + size) for w in range(size)}

    def p(w: int, v: int) -> float:
        continuations = [n for (left, _), n in pairs.items() if left == v]
        n, types = sum(continuations), len(continuations)
        return (pairs[v, w] + types * unigram[w]) / (n + types) if n else unigram[w]

    queries = [
        (v, w) for row in valid for v, w in zip([2, *row], row, strict=False) if w not in S
    ]
    table = {(v, w): p(w, v) for v in {v for v, _ in queries} for w in range(size)}
    return -sum(math.log(table[q]) for q in queries) / len(queries), table


def test_bigram_cross_entropy_against_plain_dictionaries() -> None:
    rng = np.random.default_rng(0)
    train = [rng.zipf(1.5, rng.integers(2, 9)).clip(max=15) + 4 for _ in range(60)]
    # Contexts that were never seen, pairs that were never seen, and an [UNK] in the middle.
    train_rows = [*(row.tolist() for row in train if 17 not in row), [5, 1, 6], [19]]
    valid_rows = [[5, 6, 17, 9], [17, 17, 5], [6, 1, 5], [7, 8]]
    expected, table = witten_bell(train_rows, valid_rows, size=20)
    for v in {v for v, _ in table}:  # the reference is a probability distribution
        assert sum(table[v, w] for w in range(20)) == pytest.approx(1)
    got = bigram_cross_entropy(corpus_of(*train_rows), corpus_of(*valid_rows), S)
    assert got == pytest.approx(expected)


def test_bigram_surprisal_of_each_piece() -> None:
    train, text = [[5, 6, 5, 7], [6, 6, 8], [9]], [5, 6, 1, 7, 8, 9]
    model = BigramModel.fit(corpus_of(*train), S, size=20)
    _, table = witten_bell(train, [text], size=20)
    pairs = [(2, 5), (5, 6), (1, 7), (7, 8), (8, 9)]  # [UNK] is a context, never predicted
    got = model.surprisal(np.array([2, *text, 3]))
    assert got == pytest.approx([-math.log(table[pair]) for pair in pairs])
    # Those that follow a context share its probability among themselves and the rest.
    every = [model.surprisal(np.array([5, w]))[0] for w in range(5, 20)]
    special = sum(table[5, w] for w in S)
    assert sum(math.exp(-x) for x in every) == pytest.approx(1 - special)


def test_a_deterministic_language_has_a_bigram_loss_near_zero() -> None:
    rows = [[5, 6, 7, 8]] * 3000
    assert bigram_cross_entropy(corpus_of(*rows), corpus_of(*rows[:9]), S) < 0.01
    assert unigram_entropy(corpus_of(*rows), S) == pytest.approx(math.log(4))
