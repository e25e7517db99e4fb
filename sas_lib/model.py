"""A small BERT, its loss at the masked positions only, and its word-level attention.

The modules are those of ``transformers``; any BERT-like masked language model, by name or
from a local folder, can be measured with the functions below.

Word-level attention follows Clark et al. (2019, arXiv:1906.04341): the attention *to* a
word is the sum over its pieces, the attention *from* a word the mean over its pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

logging.disable_progress_bar()  # transformers' own bars, one for each small file


class ModelError(ValueError):
    """A model that cannot be used here; the message says why and what to do."""


def small_bert(
    vocab_size: int,
    layers: int = 4,
    width: int = 256,
    heads: int = 4,
    max_length: int = 128,
    dropout: float = 0.0,
    seed: int = 0,
) -> BertForMaskedLM:
    """A randomly initialised BERT of any size: post-layer-norm, learned positions."""
    if width % heads:
        raise ModelError(f"width {width} is no multiple of the number of heads, {heads}")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocab_size,
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=max_length,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=0,
    )
    # Eager attention gives maps, and at these lengths it is as fast as the fused kernels.
    config._attn_implementation = "eager"
    return BertForMaskedLM(config)


# What transformers lets through; a damaged pytorch_model.bin raises the error of pickle.
LOADING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    SafetensorError,
    UnpicklingError,
)


def load(
    name: str | Path, device: str | torch.device = "cpu", revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a masked language model and its tokenizer, ready to be measured.

    name: a local folder or a name on the Hugging Face hub.

    Raises:
        ModelError: nothing there, no masked language model, no fast tokenizer or one that
            does not fit, weights that are not finite, or no such device.
    """
    device = usable_device(device)
    try:
        model, report = AutoModelForMaskedLM.from_pretrained(
            name,
            revision=revision,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(name, revision=revision)
    except LOADING_ERRORS as error:
        missing = "" if Path(name).exists() else " (there is no such folder)"
        raise ModelError(
            f"cannot load a masked language model from {str(name)!r}{missing}: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    _check(model, tokenizer, report["missing_keys"], repr(str(name)))
    return model.to(device).eval(), tokenizer


def _check(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    missing: Iterable[str],
    name: str,
) -> None:
    """Raise ModelError for what would give figures that mean nothing."""
    absent = sorted(key for key in missing if "decoder.bias" not in key)
    if absent:
        raise ModelError(
            f"{name} lacks weights of a masked language model, such as {absent[0]}"
        )
    for key, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ModelError(f"{name}: the weights of {key} are not finite (NaN or inf)")
    # Where the tokenizer's files are missing, transformers makes an empty one.
    if not tokenizer.is_fast or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"{name} has no fast tokenizer, which word alignment needs")
    if tokenizer.mask_token_id is None:
        raise ModelError(f"{name}: the tokenizer has no mask token")
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:
        raise ModelError(
            f"{name}: a tokenizer of {len(tokenizer)} pieces, but a model of "
            f"{embeddings.num_embeddings}; which one is meant?"
        )


def usable_device(name: str | torch.device) -> torch.device:
    """The device of this name.

    Raises:
        ModelError: there is no such device here.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"cannot use the device {str(name)!r}: {reason}") from error


def training_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, float32 elsewhere.

    On a CPU without AMX or AVX512-BF16 bfloat16 is emulated and many times slower.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    native = any(getattr(torch.cpu, probe, bool)() for probe in probes)
    return torch.bfloat16 if native else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """A context in which matrix products run in ``training_dtype``; weights stay float32."""
    dtype = training_dtype(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def max_pieces(model: PreTrainedModel) -> int:
    """The longest input, in pieces and special tokens, that the model takes."""
    longest = int(model.config.max_position_embeddings)
    # RoBERTa's positions start after the padding index.
    if model.config.model_type in {"roberta", "camembert", "xlm-roberta"}:
        longest -= int(model.config.pad_token_id) + 1
    return longest


def logits_at(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, positions: Tensor
) -> Tensor:
    """Vocabulary logits at a few positions; the head is not computed anywhere else.

    input_ids, attention_mask: [batch, length]. positions: [n], in the flattened batch.
    Returns [n, vocabulary].
    """
    head = getattr(model, "cls", None) or getattr(model, "lm_head", None)
    if head is None:  # an architecture we do not know by heart: all logits, then a choice
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits.flatten(0, 1)[positions]
    body = model.base_model(input_ids=input_ids, attention_mask=attention_mask)
    return head(body.last_hidden_state.flatten(0, 1)[positions])


def masked_lm_loss(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    positions: Tensor,
    labels: Tensor,
) -> Tensor:
    """Mean cross-entropy in nats at the masked positions (shapes as ``logits_at``)."""
    logits = logits_at(model, input_ids, attention_mask, positions)
    return torch.nn.functional.cross_entropy(logits.float(), labels)


@dataclass(frozen=True)
class WordBatch:
    """Sentences as pieces, with the map from pieces back to words.

    input_ids, attention_mask: int64 [batch, pieces].
    membership: float [batch, words, pieces], 1 where the piece belongs to the word.
    words: the number of words of each sentence. sentences: their numbers in the input.
    """

    input_ids: Tensor
    attention_mask: Tensor
    membership: Tensor
    words: list[int]
    sentences: list[int]


def word_batch(
    sentences: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerFast,
    numbers: Sequence[int] | None = None,
) -> WordBatch:
    """Encode sentences given as words; word lists are padded to the longest.

    The words are joined by spaces and aligned through character offsets: encoded one by
    one, they would lose the space that byte-level tokenizers (RoBERTa's) write into a piece.
    """
    encoded = tokenizer(
        [" ".join(words) for words in sentences],
        padding=True,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    counts = [len(words) for words in sentences]
    batch, pieces = encoded["input_ids"].shape
    membership = torch.zeros(batch, max(counts), pieces)
    for row, words in enumerate(sentences):
        # Each character's word; the space before a word counts to it.
        owner = [i for i, word in enumerate(words) for _ in range(len(word) + (i > 0))]
        starts = encoded["offset_mapping"][row, :, 0].tolist()
        for piece, special in enumerate(encoded.encodings[row].special_tokens_mask):
            if not special:
                membership[row, owner[starts[piece]], piece] = 1.0
    return WordBatch(
        input_ids=encoded["input_ids"],
        attention_mask=encoded["attention_mask"],
        membership=membership,
        words=counts,
        sentences=list(range(batch)) if numbers is None else list(numbers),
    )


def pieces_to_words(attention: Tensor, membership: Tensor) -> Tensor:
    """Turn attention between pieces into attention between words.

    attention: [batch, heads, pieces, pieces], rows attend to columns.
    membership: [batch, words, pieces], see :class:`WordBatch`.
    Returns [batch, heads, words, words] with the diagonal set to 0. Special tokens belong
    to no word and so drop out; rows therefore need not sum to 1.
    """
    batch, heads, pieces, _ = attention.shape
    # Sum over the attended. Heads have the membership in common: one product a sentence.
    to_words = attention.reshape(batch, heads * pieces, pieces) @ membership.transpose(1, 2)
    to_words = to_words.view(batch, heads, pieces, -1)
    counts = membership.sum(-1, keepdim=True).clamp(min=1)
    words = (membership / counts).unsqueeze(1) @ to_words  # mean over the attending
    words.diagonal(dim1=-2, dim2=-1).zero_()
    return words


@torch.inference_mode()
def word_attention(model: PreTrainedModel, batch: WordBatch) -> Iterator[Tensor]:
    """Yield each layer's word-level attention, [batch, heads, words, words], from below.

    The input is not masked. The model must use eager attention: the fused kernels return
    no maps (and ``transformers`` says nothing about it).

    Raises:
        ModelError: the model returned no attention maps.
    """
    device = next(model.parameters()).device
    output: Any = model.base_model(
        input_ids=batch.input_ids.to(device),
        attention_mask=batch.attention_mask.to(device),
        output_attentions=True,
    )
    if not output.attentions:
        raise ModelError(
            "the model returned no attention maps; load it with attn_implementation='eager'"
        )
    membership = batch.membership.to(device)
    for layer in output.attentions:
        yield pieces_to_words(layer.float(), membership)
