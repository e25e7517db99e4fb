"""Loss and attention on the validation sentences, always masked alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib.batches import mask_pieces, step_generator
from sas_lib.corpus import EncodedCorpus
from sas_lib.model import masked_lm_loss
from sas_lib.regularizer import LinkPenalty, watching


@torch.inference_mode()
def validation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: EncodedCorpus,
    mask_rate: float,
    batch_size: int = 128,
) -> tuple[float, float | None]:
    """Loss and gold-arc attention.

    Returns the masked-language-model loss in nats, and the mean over gold arcs and both
    directions of the largest attention on them (None where no sentence has a parse).
    """
    total = count = 0.0
    attention = arcs = 0.0
    device = next(model.parameters()).device
    for number, batch in enumerate(_in_order(sentences, batch_size, tokenizer.pad_token_id)):
        masked, positions, labels = mask_pieces(
            batch["input_ids"],
            tokenizer.all_special_ids,
            tokenizer.mask_token_id,
            len(tokenizer),
            step_generator(12345, number),
            mask_rate,
        )
        gold = LinkPenalty(batch["heads"].to(device))
        with watching(model, gold):
            loss = masked_lm_loss(
                model,
                masked.to(device),
                batch["attention_mask"].to(device),
                positions.to(device),
                labels.to(device),
            )
        total += loss.item() * len(labels)
        count += len(labels)
        attention += gold.value().item() * len(masked)
        arcs += gold.linked.sum().item()
    return total / count, attention / arcs if arcs else None


def _in_order(data: EncodedCorpus, size: int, pad: int) -> Iterator[dict[str, torch.Tensor]]:
    order = np.argsort(data.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield data.batch(order[start : start + size], pad)
