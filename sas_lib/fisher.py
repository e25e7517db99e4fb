"""The trace of the empirical Fisher information, from per-example gradients.

An example is a sentence with one masked piece. The Fisher information is the mean over
examples of g g^T, g being the gradient of the log-probability of a piece, and its trace the
mean of the squared length of g. The *true* Fisher draws that piece from the model's own
prediction; the *empirical* Fisher, computed here, takes the piece that stands in the text.
They agree where the model's predictions are right on average, as near the end of training;
before that the empirical trace is a measure of gradient noise rather than of curvature
(Kunstner, Balles and Hennig 2019, arXiv:1905.12558).

One masked piece, not 15%: long sentences would otherwise weigh more than short ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib.model import masked_lm_loss
from sas_lib.sentence_batches import encode_checked, special_ids

# Numbers in the gradients that are held at a time: 256 MB of float32.
GRADIENT_NUMBERS = 2**26


class _Loss(torch.nn.Module):
    """The model's loss as a module, since ``functional_call`` swaps a module's parameters."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, position: Tensor, label: Tensor) -> Tensor:
        """input_ids: [1, length]. position, label: [1]."""
        no_padding: Any = None  # a mask would be looked into, which vmap does not allow
        return masked_lm_loss(self.model, input_ids, no_padding, position, label)


def fisher_trace(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    seed: int = 0,
    chunk: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[float, float]:
    """The trace of the empirical Fisher information and its standard error over texts.

    Arguments and errors are those of ``squared_gradients``.
    """
    squares = squared_gradients(model, tokenizer, texts, seed, chunk, progress)
    spread = squares.std(ddof=1) if len(squares) > 1 else np.nan
    return float(squares.mean()), float(spread / np.sqrt(len(squares)))


def squared_gradients(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    seed: int = 0,
    chunk: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Squared length of each text's gradient of -log p(masked piece), float64 [texts].

    The gradient is that of all parameters, a tied one once, in float32. The masked piece
    depends on ``seed`` and the text's place alone, so that checkpoints are compared on the
    same examples. chunk: gradients held at a time; by default as many as fit in 256 MB.
    progress: called after each chunk with the number of texts done in it.

    Raises:
        ModelError: see ``encode_checked``.
    """
    encoded = encode_checked(model, tokenizer, texts)
    masked = [_choose(ids, special_ids(tokenizer), [seed, i]) for i, ids in enumerate(encoded)]
    loss = _Loss(model)
    weights = {name: p.detach() for name, p in loss.named_parameters()}
    size = chunk or max(1, GRADIENT_NUMBERS // sum(p.numel() for p in weights.values()))

    def example_loss(weights: dict[str, Tensor], *example: Tensor) -> Tensor:
        return functional_call(loss, weights, tuple(part[None] for part in example))

    gradients = vmap(grad(example_loss), in_dims=(None, 0, 0, 0))
    squares = np.empty(len(encoded))
    for group in _same_length(encoded, size):
        ids = torch.tensor([encoded[i] for i in group])
        position = torch.tensor([masked[i] for i in group])
        rows = torch.arange(len(group))
        labels = ids[rows, position]
        ids[rows, position] = int(tokenizer.mask_token_id)
        batch = (part.to(model.device) for part in (ids, position, labels))
        squares[group] = _squared_lengths(gradients(weights, *batch))
        if progress is not None:
            progress(len(group))
    return squares


def _choose(ids: Sequence[int], special: Sequence[int], seed: list[int]) -> int:
    """The position of a piece, drawn at random, that is no special token."""
    ordinary = np.flatnonzero(~np.isin(ids, special))
    return int(np.random.default_rng(seed).choice(ordinary))


def _same_length(encoded: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Groups of at most ``size`` sentences of one length, which need no padding."""
    by_length: dict[int, list[int]] = {}
    for number, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(number)
    return [
        numbers[start : start + size]
        for _, numbers in sorted(by_length.items())
        for start in range(0, len(numbers), size)
    ]


def _squared_lengths(gradients: dict[str, Tensor]) -> np.ndarray:
    """gradients: name to [examples, ...]. Returns float64 [examples]."""
    squares = [g.flatten(1).square().sum(1) for g in gradients.values()]
    return torch.stack(squares).cpu().double().sum(0).numpy()
