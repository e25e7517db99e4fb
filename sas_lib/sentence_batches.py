"""Sentences for measuring: checked against the model's longest input, in even batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib.model import ModelError, max_pieces


def encode_checked(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> list[list[int]]:
    """The pieces of each text, special tokens included.

    Raises:
        ModelError: there is no text, or one is empty or longer than the model takes; the
            message counts texts from 1.
    """
    if not len(texts):
        raise ModelError("no sentences to measure; is the text empty?")
    encoded: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"]
    limit, special = max_pieces(model), tokenizer.num_special_tokens_to_add()
    for number, ids in enumerate(encoded):
        if not special < len(ids) <= limit:
            raise ModelError(
                f"sentence {number + 1} has {len(ids) - special} pieces; the model takes 1 "
                f"to {limit - special}: {texts[number][:60]!r}; leave it out"
            )
    return encoded


def length_groups(lengths: Sequence[int], batch_pieces: int) -> Iterator[list[int]]:
    """Numbers of sentences of like length, shortest first, at most ``batch_pieces`` padded
    pieces a group (but at least one sentence)."""
    group: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and lengths[number] * (len(group) + 1) > batch_pieces:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """``input_ids`` and ``attention_mask``, each int64 [rows, longest]."""
    longest = max(map(len, rows))
    ids = np.array([[*row, *[pad_id] * (longest - len(row))] for row in rows], dtype=np.int64)
    lengths = torch.tensor([*map(len, rows)])
    return torch.from_numpy(ids), (torch.arange(longest) < lengths[:, None]).long()


def special_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Tokens that stand for no word. An unknown piece does, whatever the tokenizer says."""
    return [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]
