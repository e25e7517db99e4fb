"""Context windows and attention profiles against models whose behaviour is known."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from sas_lib import context
from sas_lib.complexity_measures import attention_measure, context_measure
from sas_lib.context import (
    ROADS,
    WINDOWS,
    attention_profile,
    context_use,
    loss_without,
    open_roads,
    visible_pieces,
)
from sas_lib.model import ModelError, autocast, word_batch
from sas_lib.treebank import Sentence

Words = list[tuple[str, ...]]


@pytest.fixture(scope="module")
def some(sentences: list[Sentence]) -> Words:
    """Fifteen sentences of two to fourteen words."""
    chosen = [s.words for s in sentences[3:960:70]]
    longer = [a + b for a, b in zip(chosen[:3], chosen[3:6], strict=True)]
    return [("the", "dog"), *longer, *chosen[3:], ("remembers", "the", "unforgettable", "king")]


def pieces_of(tokenizer: PreTrainedTokenizerFast, words: tuple[str, ...]) -> list[int | None]:
    """The word of each piece, through the tokenizers library, None for [CLS] and [SEP]."""
    return list(tokenizer(list(words), is_split_into_words=True).word_ids())


# --- what is in sight -----------------------------------------------------------------


def test_windows_by_hand(tokenizer: PreTrainedTokenizerFast) -> None:
    words = ("the", "unforgettable", "dog", "sees", "that", "nightingale", ".")
    owner = pieces_of(tokenizer, words)
    assert len(owner) > len(words) + 2  # some are of several pieces
    batch = word_batch([words, ("the", "small")], tokenizer)
    for window, in_sight in [
        (1, {3}),
        (2, {2, 3}),
        (3, {2, 3, 4}),
        (4, {1, 2, 3, 4}),
        (5, {1, 2, 3, 4, 5}),
        (6, {0, 1, 2, 3, 4, 5}),
        (7, set(range(7))),
        (9, set(range(7))),
        (None, set(range(7))),
    ]:
        mask = visible_pieces(batch, torch.tensor([3, 1]), window)
        expected = [int(word is None or word in in_sight) for word in owner]
        assert mask[0].tolist() == expected
    # The second sentence is padded; at its end the window is cut off, not moved.
    assert visible_pieces(batch, torch.tensor([3, 1]), 3)[1].sum() == 2 + 2
    assert visible_pieces(batch, torch.tensor([3, 0]), 2)[1].sum() == 2 + 1
    assert visible_pieces(batch, torch.tensor([3, 1]), 9)[1].tolist() == (
        batch.attention_mask[1].tolist()
    )


def test_roads_by_hand(tokenizer: PreTrainedTokenizerFast) -> None:
    words = ("the", "unforgettable", "dog")
    owner = pieces_of(tokenizer, words)
    assert len(owner) > len(words) + 2
    batch = word_batch([words, ("the",)], tokenizer)
    for cut in ROADS:
        mask = open_roads(batch, torch.zeros(2), cut)
        assert mask.shape == (2, 1, len(owner), len(owner))
        for i, j in np.ndindex(len(owner), len(owner)):
            a, b = owner[i], owner[j]
            direct = a is not None and b is not None and a != b
            hub = a is None and b is not None
            shut = (direct and cut in ("direct", "both")) or (hub and cut in ("hub", "both"))
            assert (mask[0, 0, i, j] < 0) == shut, (cut, i, j)
        assert (mask[1, 0, :, 3:] < 0).all()  # padding is never seen


def test_no_road_carries_what_is_cut(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """What is said at a masked word changes with another word just where a road is open."""
    model = copy.deepcopy(model)
    batch = word_batch([("the", "small", "d", "that")], tokenizer)
    other = word_batch([("the", "old", "d", "that")], tokenizer)
    assert (batch.input_ids != other.input_ids).sum() == 1
    for cut in ROADS:
        mask = open_roads(batch, torch.zeros(1), cut)
        with torch.inference_mode():
            one, two = (
                model(input_ids=b.input_ids, attention_mask=mask).logits[0, 3]
                for b in (batch, other)
            )
            whole = model(input_ids=batch.input_ids).logits[0, 3]
        assert torch.equal(one, two) == (cut == "both")
        if cut == "none":
            torch.testing.assert_close(one, whole)
    for layers in model.base_model.encoder.layer[1:]:  # a hub takes two layers
        layers.attention.forward = lambda hidden, *_, **__: (torch.zeros_like(hidden), None)
    mask = open_roads(batch, torch.zeros(1), "direct")
    with torch.inference_mode():
        one, two = (
            model(input_ids=b.input_ids, attention_mask=mask).logits[0, 3]
            for b in (batch, other)
        )
    assert torch.equal(one, two)


def test_the_loss_with_all_roads_open_is_that_of_the_whole_sentence(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, some: Words
) -> None:
    losses = loss_without(model, tokenizer, some)
    whole = context_use(model, tokenizer, some, windows=(None,))
    assert losses["none"] == pytest.approx(whole.loss[0], rel=1e-5)
    assert list(losses) == list(ROADS) and len(set(losses.values())) == 4


class Copier(torch.nn.Module):
    """Predicts the piece that stands ``offset`` places from the mask, if it can be seen."""

    def __init__(self, offset: int, size: int, mask_id: int) -> None:
        super().__init__()
        self.offset, self.size, self.mask_id = offset, size, mask_id
        self.config = SimpleNamespace(model_type="copier", max_position_embeddings=64)
        self.device = torch.device("cpu")
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        source = input_ids.roll(-self.offset, 1)
        seen = attention_mask.roll(-self.offset, 1).bool() & (source != self.mask_id)
        guess = torch.where(seen, source, 0)
        return SimpleNamespace(logits=9.0 * torch.nn.functional.one_hot(guess, self.size))


@pytest.mark.parametrize(
    ("offset", "needed"), [(-1, 2), (1, 3), (-2, 4), (2, 5), (-5, 10), (5, None)]
)
def test_accuracy_begins_where_the_copied_word_comes_into_sight(
    tokenizer: PreTrainedTokenizerFast, offset: int, needed: int | None
) -> None:
    cycle = ["the", "old", "that", "small", "green"][: abs(offset)]  # of one piece each
    words = (cycle * 20)[:20]  # each word again after |offset| words
    assert len(tokenizer(" ".join(words))["input_ids"]) == 22
    model: Any = Copier(offset, len(tokenizer), int(tokenizer.mask_token_id))
    use = context_use(model, tokenizer, [words], per_sentence=20)
    copied = [w for w in range(20) if 0 <= w + offset < 20]
    assert use.word.tolist() == list(range(20))
    for window, right in zip(WINDOWS, use.correct[copied].T, strict=True):
        in_sight = needed is not None and window is not None and window >= needed
        assert right.all() if in_sight or window is None else not right.any()


def test_nothing_outside_the_window_matters(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Changing a word changes the prediction just where the word is in sight."""
    words = ("the", "small", "d", "that", "old", "t", ".")  # of one piece each
    before = context_use(model, tokenizer, [words], per_sentence=7)
    place = before.word.tolist().index(3)
    for changed in (0, 1, 2, 4, 5, 6):
        other = list(words)
        other[changed] = "green"
        assert len(pieces_of(tokenizer, tuple(other))) == len(words) + 2, "positions stay"
        after = context_use(model, tokenizer, [other], per_sentence=7)
        same = np.isclose(before.surprisal[place], after.surprisal[place], rtol=0, atol=1e-6)
        seen = [n is None or -(n // 2) <= changed - 3 <= (n - 1) // 2 for n in WINDOWS]
        assert same.tolist() == [not s for s in seen]


# --- against other ways to get the same -----------------------------------------------


def test_equals_pieces_cut_out_with_their_positions(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, some: Words
) -> None:
    """Hidden by the mask is as good as not there, if positions are kept."""
    done: list[int] = []
    use = context_use(
        model, tokenizer, some, per_sentence=2, batch_pieces=60, progress=done.append
    )
    assert sum(done) == len(set(zip(use.sentence, use.word, strict=True)))
    assert len(done) > 2
    row = 0
    while row < len(use.word):
        number, word = int(use.sentence[row]), int(use.word[row])
        owner = pieces_of(tokenizer, some[number])
        ids = torch.tensor(tokenizer(" ".join(some[number]))["input_ids"])
        hidden = [i for i, o in enumerate(owner) if o == word]
        masked = ids.clone()
        masked[hidden] = int(tokenizer.mask_token_id)
        for column, n in enumerate(WINDOWS):
            reach = range(word - n // 2, word + (n - 1) // 2 + 1) if n else range(99)
            kept = torch.tensor([i for i, o in enumerate(owner) if o is None or o in reach])
            with torch.no_grad():
                logits = model(masked[kept][None], position_ids=kept[None]).logits[0]
            for offset, piece in enumerate(hidden):
                at = logits[kept.tolist().index(piece)]
                surprisal = -log_softmax(at, -1)[ids[piece]]
                assert use.surprisal[row + offset, column] == pytest.approx(
                    float(surprisal), abs=1e-4
                )
                assert use.correct[row + offset, column] == (int(at.argmax()) == ids[piece])
        row += len(hidden)
    assert np.allclose(use.accuracy, use.correct.mean(0))
    assert np.allclose(use.loss, use.surprisal.mean(0))


# --- which words are masked -----------------------------------------------------------


def test_the_same_words_whatever_the_windows_and_the_other_sentences(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, some: Words
) -> None:
    whole = context_use(model, tokenizer, some)
    one = context_use(model, tokenizer, some, windows=[4])
    assert np.array_equal(whole.word, one.word)
    assert np.allclose(one.surprisal[:, 0], whole.surprisal[:, 3], atol=1e-5)
    assert one.windows == (4,) and one.accuracy.shape == (1,)
    fewer = context_use(model, tokenizer, some[:5])
    assert np.array_equal(fewer.word, whole.word[whole.sentence < 5])
    other = context_use(model, tokenizer, some, seed=1)
    assert not np.array_equal(other.word, whole.word)
    assert set(whole.sentence) == set(range(len(some)))
    repeated = context_use(model, tokenizer, some[4:5] * 12, windows=[1])
    assert len(set(repeated.word)) > 2  # a choice of its own for each sentence


def test_one_word_a_sentence_with_all_its_pieces_and_no_punctuation(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, some: Words
) -> None:
    sentences = [*some, (".", "!")]
    for per_sentence in (1, 3):
        use = context_use(model, tokenizer, sentences, per_sentence=per_sentence)
        for number, words in enumerate(sentences):
            masked = use.word[use.sentence == number].tolist()
            owner = pieces_of(tokenizer, words)
            content = [w for w in words if w not in {".", "!"}]
            assert len(set(masked)) == min(per_sentence, len(content))
            assert sorted(masked) == [o for o in owner if o in set(masked)]
            assert not any(words[w] == "." for w in masked)
    everything = context_use(model, tokenizer, sentences, per_sentence=99, include_punct=True)
    assert len(everything.word) == sum(
        len(pieces_of(tokenizer, words)) - 2 for words in sentences
    )


def test_context_that_cannot_be_measured(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, some: Words
) -> None:
    with pytest.raises(ValueError, match="one word or more"):
        context_use(model, tokenizer, some, windows=[0, 1])
    for nothing in ([], [(".", "!")]):
        with pytest.raises(ModelError, match="no word to mask"):
            context_use(model, tokenizer, nothing)
    with pytest.raises(ModelError, match="sentence 2 has"):
        context_use(model, tokenizer, [some[0], ("dog",) * 60])


# --- attention ------------------------------------------------------------------------


def profile_by_loops(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, sentences: Words, farthest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entropy, shares by distance and attention on words, word by word."""
    distances = [d for d in range(-farthest, farthest + 1) if d]
    entropies, shares, on_words = [], [], []
    for words in sentences:
        owner = pieces_of(tokenizer, words)
        ids = tokenizer(" ".join(words), return_tensors="pt").input_ids
        with torch.no_grad():
            maps = torch.cat(model(ids, output_attentions=True).attentions).double().numpy()
        for u in range(len(words)):
            own = [i for i, o in enumerate(owner) if o == u]
            to = np.zeros((*maps.shape[:2], len(words)))
            for v in range(len(words)):
                pieces = [i for i, o in enumerate(owner) if o == v]
                if v != u:
                    to[..., v] = maps[:, :, own][..., pieces].sum(-1).mean(-1)
            total = to.sum(-1, keepdims=True)
            p = to / total
            with np.errstate(divide="ignore", invalid="ignore"):
                entropies.append(-np.nansum(p * np.log(p), axis=-1))
            pooled = np.clip(np.arange(len(words)) - u, -farthest, farthest)
            shares.append(np.stack([p[..., pooled == d].sum(-1) for d in distances], axis=-1))
            on_words.append(total[..., 0])
    return np.mean(entropies, 0), np.mean(shares, 0), np.mean(on_words, 0)


@pytest.mark.parametrize("farthest", [2, 8])
def test_profile_equals_loops(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, some: Words, farthest: int
) -> None:
    done: list[int] = []
    found = attention_profile(
        model, tokenizer, [*some, ("alone",)], farthest, 80, progress=done.append
    )
    assert sum(done) == len(some) and len(done) > 2
    entropy, shares, on_words = profile_by_loops(model, tokenizer, some, farthest)
    assert found.entropy == pytest.approx(entropy, abs=1e-5)
    assert found.by_distance == pytest.approx(shares, abs=1e-6)
    assert found.on_words == pytest.approx(on_words, abs=1e-6)
    assert found.by_distance.sum(-1) == pytest.approx(np.ones((2, 4)))
    assert len(found.distances) == 2 * farthest and 0 not in found.distances
    assert found.n_words == sum(map(len, some))


def test_a_head_that_looks_at_all_words_alike(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    even = copy.deepcopy(model)
    for layer in even.bert.encoder.layer:
        layer.attention.self.query.weight.data.zero_()
        layer.attention.self.query.bias.data.zero_()
    sentences = [("the", "small", "d", "that", "t"), ("the", "old", "t")]
    assert all(len(pieces_of(tokenizer, words)) == len(words) + 2 for words in sentences)
    found = attention_profile(even, tokenizer, sentences, farthest=2)
    by_hand = (5 * np.log(4) + 3 * np.log(2)) / 8
    assert found.uniform_entropy == pytest.approx(by_hand)
    assert found.entropy == pytest.approx(np.full((2, 4), by_hand), abs=1e-5)
    # Five words: 3 + 2 + 1 pairs lie 2 or more apart to the left, 4 lie 1 apart; three: 1, 2.
    far, near = (6 / 4 + 1 / 2) / 8, (4 / 4 + 2 / 2) / 8
    assert found.uniform_by_distance == pytest.approx([far, near, near, far])
    assert found.by_distance == pytest.approx(
        np.broadcast_to(found.uniform_by_distance, (2, 4, 4)), abs=1e-6
    )
    assert found.on_words == pytest.approx(
        np.full((2, 4), (5 * 4 / 7 + 3 * 2 / 5) / 8), abs=1e-6
    )


def test_heads_that_are_sharp_or_look_at_no_word(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("the", "dog", "sees", "that")
    attention = torch.zeros(1, 2, 4, 4)
    attention[0, 0, 1:, 0] = 0.25  # the first head: all but the first word look at it
    monkeypatch.setattr(context, "word_attention", lambda *_: iter([attention]))
    found = attention_profile(model, tokenizer, [words], farthest=3)
    assert found.entropy.tolist() == [[0.0, 0.0]]
    # The mean over the three words that look anywhere.
    assert found.by_distance[0, 0] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0, 0])
    assert found.by_distance[0, 1].tolist() == [0.0] * 6
    assert found.on_words[0] == pytest.approx([3 * 0.25 / 4, 0])


def test_no_sentence_of_two_words(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ModelError, match="no sentences to measure"):
        attention_profile(model, tokenizer, [("alone",)])


# --- rows of a run's table ------------------------------------------------------------


def test_rows_of_context_and_attention(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, some: Words
) -> None:
    rows = context_measure(some, per_sentence=2)(model, tokenizer)
    with autocast(torch.device("cpu")):
        use = context_use(model, tokenizer, some, per_sentence=2)
    table = {(row["metric"], row["detail"]): row["value"] for row in rows}
    assert len(table) == len(rows) == 22
    for column, name in enumerate([*map(str, range(1, 11)), "all"]):
        assert table["context_accuracy", name] == use.accuracy[column]
        assert table["context_loss", name] == use.loss[column]

    rows = attention_measure(some)(model, tokenizer)
    profile = attention_profile(model, tokenizer, some)
    places = {
        (row["metric"], row.get("layer"), row.get("head"), row.get("detail")): row["value"]
        for row in rows
    }
    assert len(places) == len(rows) == 8 * 18 + 17
    assert places["attention_entropy", None, None, None] == profile.uniform_entropy
    assert places["attention_entropy", 1, 3, None] == profile.entropy[1, 3]
    assert places["attention_on_words", 1, 3, None] == profile.on_words[1, 3]
    assert places["attention_by_distance", 1, 3, "+1"] == profile.by_distance[1, 3, 8]
    assert places["attention_by_distance", 1, 3, "-8"] == profile.by_distance[1, 3, 0]
    assert places["attention_by_distance", None, None, "-1"] == profile.uniform_by_distance[7]
