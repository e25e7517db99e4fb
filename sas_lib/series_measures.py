"""What is measured of any masked language model, so that the book's figures can be drawn.

The rows have the names that the runs of this project use. Nothing here asks how a model was
trained: only its attention and its predictions are looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib import measures, uas
from sas_lib.batches import mask_pieces, step_generator
from sas_lib.checkpoints import Planned
from sas_lib.corpus import encode
from sas_lib.model import masked_lm_loss, max_pieces
from sas_lib.ngrams import unigram_entropy
from sas_lib.pretraining import Measure, Row
from sas_lib.sentence_batches import length_groups
from sas_lib.treebank import Sentence

Pairs = Mapping[str, Sequence[tuple[str, str]]]


def plan(sentences: Sequence[Sentence] = (), pairs: Pairs | None = None) -> list[Planned]:
    """The measures that the book's figures need, ready for ``measure``.

    sentences: with gold trees; for ``text``, ``loss`` and ``uas``, the last with a row for
    every (relation, layer, head, direction). pairs: paradigm to (good, bad), for ``pairs``.

    Raises:
        ValueError: neither sentences nor pairs.
    """
    planned = []
    if sentences:
        taken = {"n": len(sentences), "sha256": _digest(sentences)}
        makers: dict[str, Measure] = {
            "text": lambda model, tokenizer: text_rows(model, tokenizer, sentences),
            "loss": lambda model, tokenizer: loss_rows(model, tokenizer, sentences),
            "uas": lambda model, tokenizer: uas_rows(model, tokenizer, sentences),
        }
        planned = [Planned(name, taken, partial(_same, one)) for name, one in makers.items()]
    if pairs:
        listed = {name: list(of_paradigm) for name, of_paradigm in pairs.items()}
        taken = {"n": sum(map(len, listed.values())), "sha256": _digest(listed)}
        planned.append(Planned("pairs", taken, lambda: measures.pairs_measure(listed)))
    if not planned:
        raise ValueError("nothing to measure on: give sentences with gold trees, or pairs")
    return planned


def _same(measure: Measure) -> Measure:
    return measure


def _digest(data: object) -> str:
    return hashlib.sha256(repr(data).encode()).hexdigest()


def text_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sentence]
) -> list[Row]:
    """How the tokenizer fits the sentences: to be looked at before anything else.

    ``pieces_per_word``; ``unknown_share``, the share of pieces that stand for what it does
    not know; ``too_long_share``, the share of sentences that the model cannot take.
    """
    special = tokenizer.num_special_tokens_to_add()
    encoded = [
        tokenizer(" ".join(s.words), verbose=False, add_special_tokens=False)["input_ids"]
        for s in sentences
    ]
    pieces = sum(map(len, encoded))
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in encoded)
    long = sum(len(ids) + special > max_pieces(model) for ids in encoded)
    rows = {
        "pieces_per_word": pieces / sum(map(len, sentences)),
        "unknown_share": unknown / max(pieces, 1),
        "too_long_share": long / len(encoded),
    }
    return [{"metric": name, "value": value} for name, value in rows.items()]


@torch.inference_mode()
def loss_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[Sentence],
    mask_rate: float = 0.15,
) -> list[Row]:
    """``valid_loss`` in nats a masked piece, with ``unigram_entropy`` beside it.

    The same pieces are masked for every model with the tokenizer. Losses of different
    tokenizers are not comparable: each predicts other pieces. What is too long is cut.
    """
    limit, special = max_pieces(model), tokenizer.all_special_ids
    corpus = encode([" ".join(s.words) for s in sentences], tokenizer, limit)
    total = count = 0.0
    for number, group in enumerate(length_groups(list(corpus.lengths), 8192)):
        batch = corpus.batch(group, tokenizer.pad_token_id)
        masked, positions, labels = mask_pieces(
            batch["input_ids"],
            special,
            tokenizer.mask_token_id,
            len(tokenizer),
            step_generator(12345, number),
            mask_rate,
        )
        given = (masked, batch["attention_mask"], positions, labels)
        loss = masked_lm_loss(model, *(tensor.to(model.device) for tensor in given))
        total += float(loss) * len(labels)
        count += len(labels)
    return [
        {"metric": "valid_loss", "value": total / count},
        {"metric": "unigram_entropy", "value": unigram_entropy(corpus, special)},
    ]


def uas_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sentence]
) -> list[Row]:
    """All of UAS, with a row for every (relation, layer, head, direction).

    And for each relation what a run of our own has only for all together: how many arcs were
    scored, ``relation_arcs``, and its best fixed offset, ``relation_baseline_offset``.
    """
    arcs = uas.score_arcs(model, tokenizer, sentences)
    figures = uas.summarise(arcs)
    rows = measures.uas_rows(figures)
    rows.append({"metric": "attention_mass", "value": measures.attention_mass(arcs)})
    for row in figures["per_relation"]["relations"]:
        of_relation = {"relation_arcs": row["n"], "relation_baseline_offset": row["offset_uas"]}
        rows += [
            {"metric": name, "detail": row["relation"], "value": float(value)}
            for name, value in of_relation.items()
        ]
    return rows + measures.head_relation_rows(arcs)
