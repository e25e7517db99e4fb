"""Words and weights: inflected forms, discrete distributions, and tastes.

A preference is a :class:`Table`. It is built from the clusters that a word's entry names,
so that "bake" prefers cakes to coats, and from an order of each head's own, drawn once and
for all, so that among the cakes it prefers some to others. Both orders are Zipfian. A small
share of a table may leak to anything of the same kind, which keeps preferences soft.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, NamedTuple, TypeVar

FREQUENCY_EXPONENT = 0.5  # of the order in which a cluster lists its nouns
TASTE_EXPONENT = 1.0  # of the order that is each head's own

T = TypeVar("T")


class Form(NamedTuple):
    """An inflected word as it stands in a sentence."""

    text: str
    lemma: str
    upos: str
    features: str = "_"


class Table(Generic[T]):
    """A discrete distribution; with probability ``share`` it defers to ``leak``."""

    __slots__ = ("cumulative", "items", "leak", "share")

    def __init__(
        self,
        weighted: Iterable[tuple[T, float]],
        leak: Table[T] | None = None,
        share: float = 0.0,
    ) -> None:
        pairs = list(weighted)
        if not pairs:
            raise ValueError("a table needs at least one item")
        self.items = [item for item, _ in pairs]
        self.leak = leak
        self.share = share if leak else 0.0
        total = sum(weight for _, weight in pairs) / (1 - self.share)
        self.cumulative = [self.share + c / total for c in accumulate(w for _, w in pairs)]
        self.cumulative[-1] = 1.0

    def draw(self, u: float) -> T:
        """The item at ``u``, a uniform draw from [0, 1)."""
        if u < self.share and self.leak is not None:
            return self.leak.draw(u / self.share)
        return self.items[bisect_right(self.cumulative, u)]

    def weighted(self) -> Iterator[tuple[T, float]]:
        """The items with their probabilities, the leak left out."""
        previous = self.share
        for item, c in zip(self.items, self.cumulative, strict=True):
            yield item, c - previous
            previous = c


def zipf(items: Sequence[T], exponent: float) -> list[tuple[T, float]]:
    """Weights that fall with the rank in ``items``."""
    return [(item, (rank + 1) ** -exponent) for rank, item in enumerate(items)]


def own_order(items: Sequence[T], key: str) -> list[T]:
    """The items in an order that belongs to ``key``, the same in every run."""
    order = list(items)
    random.Random(key).shuffle(order)
    return order


def taste(items: Sequence[T], key: str) -> list[tuple[T, float]]:
    """Weights from the common frequency (the order of ``items``) and ``key``'s own order."""
    own = {id(item): w for item, w in zipf(own_order(items, key), TASTE_EXPONENT)}
    pairs = [(item, w * own[id(item)]) for item, w in zipf(items, FREQUENCY_EXPONENT)]
    total = sum(w for _, w in pairs)
    return [(item, w / total) for item, w in pairs]
