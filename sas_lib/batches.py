"""From encoded sentences to masked batches.

Sentences are served singly, in batches of like length, with 15% of their pieces masked.
Masking follows Devlin et al. (2019, arXiv:1810.04805): of the chosen pieces 80% become
[MASK], 10% a random piece, 10% stay as they are.

Which sentences and which pieces depends on a seed and the number of the step alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sas_lib.corpus import NO_HEAD, EncodedCorpus
from sas_lib.text import CorpusError


def length_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The batches of one epoch: int64 [batches, batch_size] of sentence numbers.

    Sentences are shuffled, sorted by length within pools of 50 batches so that little is
    padded, and the batches shuffled again. A remainder, drawn at random, is left out. The
    order depends on ``seed`` and ``epoch`` alone.

    Raises:
        CorpusError: there are fewer sentences than one batch holds.
    """
    if len(lengths) < batch_size:
        raise CorpusError(
            f"{len(lengths)} sentences are fewer than one batch of {batch_size}; "
            "use a longer corpus or a smaller batch"
        )
    rng = np.random.default_rng([seed, epoch])
    n_batches = len(lengths) // batch_size
    # The remainder goes before the sorting: after it, it would always be the longest.
    order = rng.permutation(len(lengths))[: n_batches * batch_size]
    pool = 50 * batch_size
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        order[start : start + pool] = part[np.argsort(lengths[part], kind="stable")]
    return order.reshape(n_batches, batch_size)[rng.permutation(n_batches)]


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on seed and step alone, so that a resumed run repeats."""
    mixed = np.random.SeedSequence([seed, step]).generate_state(1, dtype=np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(mixed) % 2**63)


def mask_pieces(
    input_ids: Tensor,
    special_ids: Sequence[int] | Tensor,
    mask_id: int,
    vocab_size: int,
    generator: torch.Generator,
    rate: float = 0.15,
    ordinary_count: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose pieces to predict and hide them (80% [MASK], 10% random, 10% unchanged).

    A fixed share of the batch's ordinary pieces is chosen, rather than each piece by a
    coin, so that every step predicts the same number at the same batch shape.

    input_ids: int64 [batch, length]. ordinary_count: how many pieces are ordinary, where
    that is known; to count them waits for the device.
    Returns the masked ids [batch, length], the chosen positions in the flattened batch,
    int64 [chosen], in ascending order, and the pieces that stood there, int64 [chosen].
    """
    flat = input_ids.reshape(-1)
    device = flat.device
    ordinary = ~torch.isin(flat, torch.as_tensor(special_ids, device=device))
    if ordinary_count is None:
        ordinary_count = int(ordinary.sum())
    chosen_count = max(1, round(rate * ordinary_count))
    scores = torch.rand(flat.shape, generator=generator, device=device)
    scores.masked_fill_(~ordinary, -1.0)
    positions = scores.topk(chosen_count).indices.sort().values
    labels = flat[positions]
    lot = torch.rand(labels.shape, generator=generator, device=device)
    random_ids = torch.randint(
        len(special_ids), vocab_size, labels.shape, generator=generator, device=device
    )
    hidden = torch.where(lot < 0.8, mask_id, torch.where(lot < 0.9, random_ids, labels))
    masked = flat.clone()
    masked[positions] = hidden
    return masked.view_as(input_ids), positions, labels


@dataclass(frozen=True)
class MaskedBatch:
    """Tensors of one step, on the device.

    input_ids (masked), attention_mask, heads: int64 [batch, length]. positions, labels:
    int64 [masked]. tokens: pieces that are not padding.
    """

    input_ids: Tensor
    attention_mask: Tensor
    heads: Tensor
    positions: Tensor
    labels: Tensor
    tokens: int


class ResidentCorpus:
    """A corpus kept on the device, where batches are cut out and masked.

    Nothing here waits for the device: what has to be known of a batch beforehand, its
    longest sentence and its number of pieces, is read off the lengths, which stay outside.
    """

    def __init__(
        self,
        corpus: EncodedCorpus,
        tokenizer: PreTrainedTokenizerFast,
        device: torch.device,
        mask_rate: float,
    ) -> None:
        self.lengths, self.device, self.mask_rate = corpus.lengths, device, mask_rate
        self.mask_id, self.pad_id = tokenizer.mask_token_id, tokenizer.pad_token_id
        self.vocab_size = len(tokenizer)
        self.special = torch.tensor(tokenizer.all_special_ids, device=device)
        self.starts = torch.from_numpy(corpus.starts).to(device)
        self.pieces = torch.from_numpy(corpus.pieces).to(device)
        self.heads = None if corpus.heads is None else torch.from_numpy(corpus.heads).to(device)

    def batch(self, sentences: np.ndarray, generator: torch.Generator) -> MaskedBatch:
        """Sentences of these numbers, masked by a generator of the same device."""
        lengths = self.lengths[sentences]
        numbers = torch.from_numpy(sentences).to(self.device, non_blocking=True)
        offsets = torch.arange(int(lengths.max()), device=self.device)
        places = self.starts[numbers, None] + offsets
        inside = places < self.starts[numbers + 1, None]
        places = torch.where(inside, places, 0)
        ids = torch.where(inside, self.pieces[places].long(), self.pad_id)
        heads = torch.full_like(ids, NO_HEAD)
        if self.heads is not None:
            heads = torch.where(inside, self.heads[places].long(), heads)
        tokens = int(lengths.sum())
        masked, positions, labels = mask_pieces(
            ids,
            self.special,
            self.mask_id,
            self.vocab_size,
            generator,
            self.mask_rate,
            tokens - 2 * len(sentences),  # all but [CLS] and [SEP]
        )
        return MaskedBatch(masked, inside.long(), heads, positions, labels, tokens)
