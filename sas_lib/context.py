"""How much context does a model use, and where do its heads look?

**Window**: a word is masked, and of the other words only its n - 1 nearest can be seen, the
odd one on the left: n = 1 shows none of them, n = 2 the word before, n = 3 both neighbours.
At the ends of a sentence the window is cut off, not moved. What lies outside is hidden by the
attention mask, for every piece and in every layer, so nothing of it can reach the prediction
by a detour; positions stay as they are, since a piece cut out and numbered anew would seem to
be a whole, short sentence. [CLS] and [SEP] stay in sight: they are no words, and many heads
rest on them. They show how long the sentence is and where the word stands in it.

A masked word is masked with all its pieces, or those left would tell what it is. A model has
been trained on whole sentences: the figures say what it makes of so few words, not what could
be made of them.

**Roads**: nothing about another word can reach a prediction but by attention, either directly
from word to word, in whatever layer, or over a hub: a special token collects from all words,
and words look at it. Each road can be cut, in all layers, and the loss looked at. Words still
see the special tokens where only the hub's collecting is forbidden, as many heads rest there.

**Attention** is that between words (``model.word_attention``), each word's divided by its
sum: where a head looks among the other words. How much of its attention falls on other words
at all, rather than on itself or a special token, is given beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib.model import ModelError, WordBatch, logits_at, word_attention, word_batch
from sas_lib.sentence_batches import encode_checked, length_groups

Words = Sequence[str]
Progress = Callable[[int], object]

View = Callable[[WordBatch, Tensor], Tensor]  # of the masked words: an attention mask

# None is the whole sentence.
WINDOWS: tuple[int | None, ...] = (*range(1, 11), None)
# What is cut: nothing, word to word, special tokens to words, or both.
ROADS = ("none", "direct", "hub", "both")


@dataclass(frozen=True)
class ContextUse:
    """What was predicted of each masked piece, in each window.

    windows: words in sight, the masked one among them; None for all of them.
    correct: bool [pieces, windows], was the right piece the likeliest?
    surprisal: float64 [pieces, windows], -log p of the right piece, in nats.
    sentence, word: int64 [pieces], where the masked word stands (from 0).
    """

    windows: tuple[int | None, ...]
    correct: np.ndarray
    surprisal: np.ndarray
    sentence: np.ndarray
    word: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """The share of pieces predicted right, float64 [windows]."""
        return self.correct.mean(0)

    @property
    def loss(self) -> np.ndarray:
        """The mean surprisal in nats, float64 [windows]."""
        return self.surprisal.mean(0)


@torch.inference_mode()
def context_use(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[Words],
    windows: Sequence[int | None] = WINDOWS,
    per_sentence: int = 1,
    include_punct: bool = False,
    seed: int = 0,
    batch_pieces: int = 8192,
    progress: Progress | None = None,
) -> ContextUse:
    """Masked-word prediction when only a window of words around the word can be seen.

    per_sentence: words to mask in each sentence, one at a time, drawn at random; the same
    ones in every window and, for a given ``seed``, at every checkpoint. Punctuation is left
    out by default: the full stop is given away by the [SEP] behind it.
    progress: called after each batch with the number of masked words done in it.

    Raises:
        ModelError: as ``sentence_batches.encode_checked``, or no word to mask.
        ValueError: a window of less than one word.
    """
    windows = tuple(windows)
    if any(n is not None and n < 1 for n in windows):
        raise ValueError(f"a window holds one word or more; got {windows}")
    items = _items(sentences, per_sentence, include_punct, seed)
    views = [functools.partial(visible_pieces, window=n) for n in windows]
    return ContextUse(
        windows,
        *_predictions(model, tokenizer, sentences, items, views, batch_pieces, progress),
    )


@torch.inference_mode()
def loss_without(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[Words],
    per_sentence: int = 1,
    seed: int = 0,
    batch_pieces: int = 8192,
) -> dict[str, float]:
    """The mean surprisal in nats at masked words, with each of ``ROADS`` cut.

    The masked words are those of ``context_use``. Errors are its errors.
    """
    items = _items(sentences, per_sentence, False, seed)
    views = [functools.partial(open_roads, cut=cut) for cut in ROADS]
    _, surprisal, *_ = _predictions(model, tokenizer, sentences, items, views, batch_pieces)
    return dict(zip(ROADS, surprisal.mean(0).tolist(), strict=True))


def _items(
    sentences: Sequence[Words], per_sentence: int, include_punct: bool, seed: int
) -> list[tuple[int, int]]:
    """(sentence, word) of the words to mask."""
    items = []
    for number, words in enumerate(sentences):
        content = [i for i, w in enumerate(words) if include_punct or any(map(str.isalnum, w))]
        # A generator for each sentence: its choice does not depend on the sentences before.
        drawn = np.random.default_rng([seed, number]).permutation(content)[:per_sentence]
        items += [(number, int(word)) for word in drawn]
    return items


def visible_pieces(batch: WordBatch, word: Tensor, window: int | None) -> Tensor:
    """The attention mask, int64 [batch, pieces], that leaves a window of words in sight.

    word: int64 [batch], the word in the middle. window: words in sight, with that one.
    """
    if window is None:
        return batch.attention_mask
    distance = torch.arange(batch.membership.shape[1]) - word[:, None]
    inside = (distance >= -(window // 2)) & (distance <= (window - 1) // 2)
    pieces = (batch.membership * inside.unsqueeze(-1)).sum(1) > 0  # [batch, pieces]
    special = batch.membership.sum(1) == 0
    return (pieces | special).long() * batch.attention_mask


def open_roads(batch: WordBatch, word: Tensor, cut: str) -> Tensor:
    """The attention mask, additive [batch, 1, pieces, pieces], with a road of ``ROADS`` cut.

    word: not looked at; a road is cut for all words. No piece is kept from its own word.
    """
    owner = batch.membership.argmax(1)  # [batch, pieces]; of no use at special tokens
    special = batch.membership.sum(1) == 0
    between = (
        (owner[:, :, None] != owner[:, None, :]) & ~special[:, :, None] & ~special[:, None]
    )
    collecting = special[:, :, None] & ~special[:, None]
    shut = (batch.attention_mask == 0)[:, None].expand_as(between)
    shut = shut | (between & (cut in ("direct", "both")))
    shut = shut | (collecting & (cut in ("hub", "both")))
    return torch.zeros(shut.shape).masked_fill(shut, torch.finfo(torch.float32).min)[:, None]


def _predictions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[Words],
    items: list[tuple[int, int]],
    views: Sequence[View],
    batch_pieces: int,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """The arrays of ``ContextUse``: a row a masked piece, a column a view."""
    if not items:
        raise ModelError("no word to mask in these sentences")
    encoded = encode_checked(model, tokenizer, [" ".join(words) for words in sentences])
    parts = []
    for group in length_groups([len(encoded[s]) for s, _ in items], batch_pieces):
        chosen = [items[i] for i in group]
        batch = word_batch([sentences[s] for s, _ in chosen], tokenizer)
        parts.append(_predict(model, tokenizer, batch, chosen, views))
        if progress is not None:
            progress(len(group))
    correct, surprisal, sentence, word = (np.concatenate(c) for c in zip(*parts, strict=True))
    order = np.lexsort((word, sentence))
    return [correct[order], surprisal[order], sentence[order], word[order]]


def _predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    batch: WordBatch,
    items: list[tuple[int, int]],
    views: Sequence[View],
) -> list[np.ndarray]:
    """The columns of ``ContextUse`` for one batch, a masked word a row of it."""
    sentence, word = torch.tensor(items).T
    hidden = batch.membership[torch.arange(len(items)), word] > 0  # [batch, pieces]
    ids = batch.input_ids.masked_fill(hidden, int(tokenizer.mask_token_id)).to(model.device)
    positions = hidden.flatten().nonzero().squeeze(1).to(model.device)
    labels = batch.input_ids[hidden].to(model.device)
    correct, surprisal = [], []
    for view in views:
        mask = view(batch, word).to(model.device)
        logits = logits_at(model, ids, mask, positions).float()
        correct.append((logits.argmax(-1) == labels).cpu().numpy())
        loss = cross_entropy(logits, labels, reduction="none")
        surprisal.append(loss.cpu().double().numpy())
    row = hidden.nonzero()[:, 0]
    return [
        np.stack(correct, axis=1),
        np.stack(surprisal, axis=1),
        sentence[row].numpy(),
        word[row].numpy(),
    ]


# --- attention ------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionProfile:
    """Where each head looks among the other words, averaged over words.

    entropy: float64 [layers, heads], in nats; 0 where all goes to a single word.
    by_distance: float64 [layers, heads, distances], shares that sum to 1.
    on_words: float64 [layers, heads], the attention that falls on other words at all.
    distances: the attended word's place less the attending word's; the first and the last
    stand for all that lie as far or farther. uniform_entropy, uniform_by_distance: the same
    for a head that looks at all other words alike. n_words: attending words.
    """

    entropy: np.ndarray
    by_distance: np.ndarray
    on_words: np.ndarray
    distances: tuple[int, ...]
    uniform_entropy: float
    uniform_by_distance: np.ndarray
    n_words: int


def attention_profile(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[Words],
    farthest: int = 8,
    batch_pieces: int = 8192,
    progress: Progress | None = None,
) -> AttentionProfile:
    """Entropy of attention, and attention by distance, of every head.

    Sentences of one word are left out: there is no other word to look at. farthest: the
    distance from which on all are pooled. progress: called after each batch with the number
    of sentences done in it.

    Raises:
        ModelError: as ``sentence_batches.encode_checked``, or no sentence of two words.
    """
    sentences = [words for words in sentences if len(words) > 1]
    encoded = encode_checked(model, tokenizer, [" ".join(words) for words in sentences])
    distances = tuple(d for d in range(-farthest, farthest + 1) if d)
    totals: list[Tensor] = []
    for group in length_groups([len(ids) for ids in encoded], batch_pieces):
        batch = word_batch([sentences[i] for i in group], tokenizer)
        sums = _attention_sums(model, batch, distances)
        totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
        if progress is not None:
            progress(len(group))
    seen, on_words, entropy, by_distance = (t.numpy() for t in totals)
    # The last "layer" is the uniform head. A head may look at no other word at all.
    looking = np.maximum(seen, 1)
    n_words = int(seen[-1, 0])
    return AttentionProfile(
        (entropy / looking)[:-1],
        (by_distance / looking[..., None])[:-1],
        on_words[:-1] / n_words,
        distances,
        float((entropy / looking)[-1, 0]),
        (by_distance / looking[..., None])[-1, 0],
        n_words,
    )


def _attention_sums(
    model: PreTrainedModel, batch: WordBatch, distances: tuple[int, ...]
) -> list[Tensor]:
    """Sums over words, [layers + 1, heads (, distances)]: words, attention, entropy, shares.

    The last layer is that of uniform attention.
    """
    has_piece = (batch.membership.sum(-1) > 0).to(model.device)
    place = torch.arange(has_piece.shape[1], device=model.device)
    apart = place - place[:, None]  # [attending, attended]
    pair = has_piece[:, None, :] & has_piece[:, :, None] & (apart != 0)
    pooled = apart.clamp(distances[0], distances[-1])
    bins = (pooled[..., None] == torch.tensor(distances, device=model.device)).float()
    layers = [_sums(layer * pair[:, None], bins) for layer in word_attention(model, batch)]
    heads = layers[0][0].shape[0]
    layers.append(_sums(pair[:, None].float().expand(-1, heads, -1, -1), bins))
    return [torch.stack(column).cpu().double() for column in zip(*layers, strict=True)]


def _sums(attention: Tensor, bins: Tensor) -> list[Tensor]:
    """attention: [batch, heads, words, words]; bins: [words, words, distances]."""
    mass = attention.sum(-1)
    share = attention / mass.clamp(min=torch.finfo(mass.dtype).tiny).unsqueeze(-1)
    entropy = torch.special.entr(share).sum(-1)  # [batch, heads, words]
    by_distance = torch.einsum("bhij,ijd->hd", share, bins)
    return [(mass > 0).sum((0, 2)).float(), mass.sum((0, 2)), entropy.sum((0, 2)), by_distance]
