"""The penalty on syntactic attention structure (SAS), and the controls that it needs.

With links between words, the penalty of a batch is::

    R = sum over links of  max over layers and heads of A[dependent, head]
                         + max over layers and heads of A[head, dependent]

and the loss is ``MLM + lambda * R / sequences``: ``lambda < 0`` promotes attention between
linked words (SAS+), ``lambda > 0`` suppresses it (SAS-). The study calls the maximum the
*syntacticity score* (Chen et al. 2024, equation 1). The gradient flows through the attention.
A word of several pieces is linked through its first piece, on both ends.

The maximum is taken layer by layer, on the linked places alone: what is kept of a layer is
[batch, 2 x pieces] numbers, not its maps.

The controls put a like pressure elsewhere, to tell syntax from attention pressure as such:
on random trees with the same arc lengths, on each word and the next, on random pairs of
words, on gold links in two random heads only, or on sharp attention wherever it points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.bert.modeling_bert import BertSelfAttention

from sas_lib.model import ModelError
from sas_lib.treebank import ROOT, Sentence

Schedule = Sequence[tuple[int, float]]


# --- the lambda schedule --------------------------------------------------------------


def lambda_schedule(
    value: float, until: int | None = None, start: int | None = None
) -> list[tuple[int, float]]:
    """``value`` from step ``start`` (or 0) to before step ``until`` (or the end), else 0.

    Returns pairs of a step and the lambda that holds from it on.

    Raises:
        ValueError: lambda is not finite, or the stretch is empty.
    """
    begin = start or 0
    if not math.isfinite(value):
        raise ValueError(f"lambda must be a finite number, not {value}")
    if until is not None and until <= begin:
        raise ValueError(f"the penalty would end at step {until}, before it begins at {begin}")
    schedule = [(begin, value)] if until is None else [(begin, value), (until, 0.0)]
    return schedule if value else []


def parse_schedule(text: str) -> tuple[tuple[int, float], ...]:
    """``STEP:LAMBDA,STEP:LAMBDA,...`` as a schedule.

    Raises:
        ValueError: that is no such list, or its steps do not increase.
    """
    try:
        pairs = [part.split(":") for part in text.split(",")]
        schedule = tuple((int(step), float(value)) for step, value in pairs)
    except ValueError:
        raise ValueError(f"no schedule such as 0:0.01,400:0: {text!r}") from None
    steps = [step for step, _ in schedule]
    if steps != sorted(set(steps)) or steps[0] < 0:
        raise ValueError(f"the steps of a schedule must increase from 0 on: {text!r}")
    if not all(math.isfinite(value) for _, value in schedule):
        raise ValueError(f"lambda must be finite: {text!r}")
    return schedule


def lambda_at(schedule: Schedule, step: int) -> float:
    """The lambda of a step: that of the last pair at or before it, 0 before the first."""
    return max((pair for pair in schedule if pair[0] <= step), default=(0, 0.0))[1]


# --- links other than the gold ones -----------------------------------------------------


def random_tree(sentence: Sentence, rng: np.random.Generator, moves: int = 10) -> list[int]:
    """Heads of a random tree with the same root and the same signed arc lengths.

    A walk over trees that starts at the gold one: two words exchange the lengths of their
    arcs, ``moves`` times the number of words, wherever both arcs stay inside the sentence
    and no cycle comes about. Not every tree with these lengths can be reached so.
    """
    heads = list(sentence.heads)
    words = [word for word, head in enumerate(heads) if head != ROOT]
    if len(words) < 2:
        return heads
    for a, b in rng.choice(words, (moves * len(heads), 2)).tolist():
        to_a, to_b = a + heads[b] - b, b + heads[a] - a
        if a == b or not (0 <= to_a < len(heads) and 0 <= to_b < len(heads)):
            continue
        before = heads[a], heads[b]
        heads[a], heads[b] = to_a, to_b
        # A cycle that is new must run through one of the two new arcs.
        if not (_reaches_root(heads, a) and _reaches_root(heads, b)):
            heads[a], heads[b] = before
    return heads


def _reaches_root(heads: Sequence[int], word: int) -> bool:
    for _ in heads:
        word = heads[word]
        if word == ROOT:
            return True
    return False


def next_word(sentence: Sentence, rng: np.random.Generator) -> list[int]:
    """Each word linked to the next; the last is the root."""
    return [*range(1, len(sentence)), ROOT]


def random_pairs(sentence: Sentence, rng: np.random.Generator) -> list[int]:
    """Each word but the root linked to any other word of the sentence (no tree)."""
    n = len(sentence)
    others = rng.integers(0, max(1, n - 1), n)
    return [
        ROOT if head == ROOT else int(other) + (other >= word)
        for word, (head, other) in enumerate(zip(sentence.heads, others, strict=True))
    ]


RELINK: dict[str, Callable[[Sentence, np.random.Generator], list[int]]] = {
    "random_trees": random_tree,
    "next_word": next_word,
    "random_pairs": random_pairs,
}


# --- the penalties ----------------------------------------------------------------------


class Penalty(Protocol):
    """Sees each layer's attention in turn, then gives the penalty of the batch."""

    def see(self, attention: Tensor) -> None:
        """attention: [batch, heads, pieces, pieces], rows attend to columns."""

    def value(self) -> Tensor:
        """The penalty per sequence, a scalar that the gradient flows through."""


class LinkPenalty:
    """The SAS penalty on the links given.

    links: int64 [batch, pieces], each piece's head or a negative number for none; a
    sentence without a parse has none and adds 0.
    only: (layer, head) places to take the maximum over, by default all.
    """

    def __init__(self, links: Tensor, only: Sequence[tuple[int, int]] | None = None) -> None:
        pieces = torch.arange(links.shape[1], device=links.device)
        heads = links.clamp(min=0)
        there, back = pieces * len(pieces) + heads, heads * len(pieces) + pieces
        self.places = torch.cat([there, back], 1).unsqueeze(1)  # in the flattened T x T map
        self.linked = (links >= 0).repeat(1, 2)
        self.only = only
        self.layer = 0
        self.largest: Tensor | None = None

    def see(self, attention: Tensor) -> None:
        if self.only is not None:
            attention = attention[:, [h for layer, h in self.only if layer == self.layer]]
        self.layer += 1
        heads = attention.shape[1]
        if heads == 0:
            return
        on_links = attention.flatten(2).gather(2, self.places.expand(-1, heads, -1)).amax(1)
        seen = self.largest
        self.largest = on_links if seen is None else torch.maximum(seen, on_links)

    def value(self) -> Tensor:
        return _per_sequence(self.largest, self.linked)

    def mean(self) -> Tensor:
        """The mean attention on a link, over both directions; NaN without links."""
        return self.value() * len(self.linked) / self.linked.sum()


class SharpnessPenalty:
    """A control: sum over pieces of the sharpness of their sharpest attention.

    The sharpness of a row of attention over n pieces is 1 - entropy / log n, from 0
    (even) to 1 (all on one piece), whatever the piece attended to.

    attention_mask: int64 [batch, pieces].
    """

    def __init__(self, attention_mask: Tensor) -> None:
        self.real = attention_mask.bool()
        self.evenness = attention_mask.sum(1).clamp(min=2).log()[:, None, None]
        self.largest: Tensor | None = None

    def see(self, attention: Tensor) -> None:
        entropy = -torch.special.xlogy(attention, attention.clamp(min=1e-12)).sum(-1)
        sharpness = (1 - entropy / self.evenness).amax(1)
        seen = self.largest
        self.largest = sharpness if seen is None else torch.maximum(seen, sharpness)

    def value(self) -> Tensor:
        return _per_sequence(self.largest, self.real)


def _per_sequence(largest: Tensor | None, counted: Tensor) -> Tensor:
    """The sum of what counts, in float32 at least: bfloat16 sums lose small terms."""
    if largest is None:
        raise ModelError("the penalty has seen no attention")
    summable = largest.to(torch.promote_types(largest.dtype, torch.float32))
    return (summable * counted).sum() / len(counted)


def random_heads(layers: int, heads: int, seed: int, n: int = 2) -> list[tuple[int, int]]:
    """``n`` places (layer, head), drawn by chance once for a run."""
    drawn = np.random.default_rng([seed, 5]).choice(layers * heads, n, replace=False)
    return [divmod(int(place), heads) for place in sorted(drawn)]


KINDS = ("sas", *RELINK, "random_heads", "sharpness")


def penalty(
    kind: str, links: Tensor, attention_mask: Tensor, shape: tuple[int, int], seed: int
) -> LinkPenalty | SharpnessPenalty:
    """A fresh penalty for one batch.

    links: int64 [batch, pieces]; for the kinds of ``RELINK`` they are already the other
    links. shape: layers and heads of the model.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no penalty {kind!r}; there are: {', '.join(KINDS)}")
    if kind == "sharpness":
        return SharpnessPenalty(attention_mask)
    return LinkPenalty(links, random_heads(*shape, seed) if kind == "random_heads" else None)


@contextmanager
def watching(model: PreTrainedModel, *watchers: Penalty) -> Iterator[None]:
    """Show each layer's attention to the watchers while the model runs.

    Raises:
        ModelError: the model is no BERT, or its attention gives no maps.
    """

    def show(module: torch.nn.Module, inputs: object, output: tuple[Tensor, Tensor]) -> None:
        if output[1] is None:
            raise ModelError(
                "the attention gives no maps; load with attn_implementation='eager'"
            )
        for watcher in watchers:
            watcher.see(output[1])

    layers = [m for m in model.modules() if isinstance(m, BertSelfAttention)]
    if not layers:
        raise ModelError(f"{type(model).__name__} has no BERT self-attention to penalise")
    hooks = [layer.register_forward_hook(show) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
