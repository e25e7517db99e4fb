"""What can be had without looking far: the unigram and bigram levels of a corpus.

A model that knows only how frequent each piece is, or that also sees the left neighbour,
is a floor to hold a masked language model against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sas_lib.corpus import EncodedCorpus


def unigram_entropy(corpus: EncodedCorpus, special_ids: Sequence[int]) -> float:
    """Entropy of the piece frequencies in nats: the loss of a model that ignores context."""
    counts = np.bincount(corpus.pieces[~np.isin(corpus.pieces, special_ids)])
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


@dataclass(frozen=True)
class BigramModel:
    """p(w | v), interpolated with the (add-one) unigram by Witten-Bell weights.

    The weights (Witten & Bell 1991) trust a context the more often it was seen and the fewer
    its continuations. Special tokens are seen as contexts but never predicted.

    bigrams: int64 [kinds], sorted, left * size + right. counts: how often each was seen.
    unigram: float64 [size], probabilities. seen, kinds: [size], how often a piece was a
    context, and with how many continuations.
    """

    special_ids: tuple[int, ...]
    bigrams: np.ndarray
    counts: np.ndarray
    unigram: np.ndarray
    seen: np.ndarray
    kinds: np.ndarray

    @classmethod
    def fit(cls, train: EncodedCorpus, special_ids: Sequence[int], size: int) -> BigramModel:
        """Count the bigrams of a corpus whose pieces are below ``size``."""
        left, right = _pairs(train.pieces, special_ids)
        bigrams, counts = np.unique(left * size + right, return_counts=True)
        unigram = np.bincount(right, minlength=size) + 1.0
        return cls(
            tuple(special_ids),
            bigrams,
            counts,
            unigram / unigram.sum(),
            np.bincount(bigrams // size, weights=counts, minlength=size),
            np.bincount(bigrams // size, minlength=size),
        )

    def surprisal(self, pieces: np.ndarray) -> np.ndarray:
        """Surprisal in nats of each ordinary piece of a sequence given the one before it."""
        left, right = _pairs(pieces, self.special_ids)
        keys = left * len(self.unigram) + right
        slot = np.minimum(np.searchsorted(self.bigrams, keys), len(self.bigrams) - 1)
        count = np.where(self.bigrams[slot] == keys, self.counts[slot], 0)
        total = self.seen[left] + self.kinds[left]
        smoothed = (count + self.kinds[left] * self.unigram[right]) / np.maximum(total, 1)
        surprisal: np.ndarray = -np.log(np.where(total > 0, smoothed, self.unigram[right]))
        return surprisal


def _pairs(pieces: np.ndarray, special_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours (left, right), without those whose right one is a special token."""
    left, right = pieces[:-1].astype(np.int64), pieces[1:].astype(np.int64)
    inside = ~np.isin(right, special_ids)
    return left[inside], right[inside]


def bigram_cross_entropy(
    train: EncodedCorpus, valid: EncodedCorpus, special_ids: Sequence[int]
) -> float:
    """Cross-entropy in nats per piece of a bigram model of ``train`` on ``valid``."""
    size = int(max(train.pieces.max(), valid.pieces.max())) + 1
    return float(BigramModel.fit(train, special_ids, size).surprisal(valid.pieces).mean())
