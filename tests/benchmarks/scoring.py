"""Workloads of measuring: UAS on real sentences, and pseudo-log-likelihoods."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from benchmarks import peers
from benchmarks.contest import Round, Unavailable, Workload, timed
from sas_lib import toy_english
from sas_lib.corpus import train_tokenizer
from sas_lib.minimal_pairs import WINDOW, pseudo_log_likelihood
from sas_lib.model import WordBatch, pieces_to_words, small_bert, word_batch
from sas_lib.treebank import Sentence, read_conllu
from sas_lib.uas import score_arcs, score_maps

BATCH_PIECES = 4096  # as score_arcs has by default
MAX_LENGTH = 128
VOCABULARY = 8192


def model_of(quick: bool) -> BertForMaskedLM:
    """A 4 x 256 model with random weights: what they are makes no difference to the speed."""
    layers, width = (2, 32) if quick else (4, 256)
    return small_bert(VOCABULARY, layers, width, heads=4, max_length=MAX_LENGTH).eval()


def shape_of(model: BertForMaskedLM, **more: Any) -> dict[str, Any]:
    c = model.config
    return {
        "layers": c.num_hidden_layers,
        "width": c.hidden_size,
        "heads": c.num_attention_heads,
        "vocabulary": c.vocab_size,
        "dtype": "float32",
        **more,
    }


# --- UAS ------------------------------------------------------------------------------


def treebank(limit: int | None) -> tuple[list[Sentence], PreTrainedTokenizerFast]:
    """The first sentences of UD English EWT dev that can be scored, and a tokenizer of them."""
    path = Path(os.environ.get("SAS_DATA", "")) / "ud_ewt" / "en_ewt-ud-dev.conllu"
    if not path.is_file():
        raise Unavailable("no UD English EWT: set SAS_DATA to a folder with ud_ewt/ in it")
    read = list(islice(read_conllu(path), limit))
    tokenizer = train_tokenizer((" ".join(s.words) for s in read), VOCABULARY)
    fits = (
        sentence
        for sentence in read
        if len(sentence) > 1
        and len(tokenizer(" ".join(sentence.words)).input_ids) <= MAX_LENGTH
    )
    return list(islice(fits, limit)), tokenizer


Batch = tuple[WordBatch, list[Sentence]]


def batches_of(
    sentences: Sequence[Sentence], tokenizer: PreTrainedTokenizerFast
) -> list[Batch]:
    """The batches that score_arcs makes: by length, ``BATCH_PIECES`` padded pieces each."""
    encoded = tokenizer([" ".join(s.words) for s in sentences])["input_ids"]
    pieces = [len(ids) for ids in encoded]
    groups: list[list[int]] = [[]]
    for number in sorted(range(len(sentences)), key=lambda n: pieces[n]):
        if pieces[number] * (len(groups[-1]) + 1) > BATCH_PIECES:
            groups.append([])
        groups[-1].append(number)
    chosen = [[sentences[number] for number in group] for group in groups]
    return [(word_batch([s.words for s in part], tokenizer), part) for part in chosen]


def uas(quick: bool) -> Workload:
    """The UAS of a model, from sentences to scored arcs, beside the bare forward pass."""
    sentences, tokenizer = treebank(50 if quick else None)
    model = model_of(quick)

    def ours() -> Round:
        return timed(lambda: score_arcs(model, tokenizer, sentences, MAX_LENGTH))

    def forward() -> Round:
        batches = batches_of(sentences, tokenizer)

        @torch.inference_mode()
        def work() -> None:
            for batch, _ in batches:
                model.base_model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)

        return timed(work)

    return Workload(
        title="UAS on UD English EWT dev",
        unit="words",
        units=sum(map(len, sentences)),
        shape=shape_of(model, sentences=len(sentences), batch_pieces=BATCH_PIECES),
        contestants={"ours": ours, "forward": forward},
    )


Maps = list[list[torch.Tensor]]  # of each batch, of each layer


@torch.inference_mode()
def attention_maps(model: BertForMaskedLM, batches: Sequence[Batch]) -> Maps:
    """Piece-level attention, each [batch, heads, pieces, pieces]."""
    return [
        list(
            model.base_model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                output_attentions=True,
            ).attentions
        )
        for batch, _ in batches
    ]


def score_as_we_do(maps: Maps, batches: Sequence[Batch]) -> list[list[Any]]:
    """Of each batch, the columns of ``score_maps``."""
    return [
        score_maps(
            (pieces_to_words(layer, batch.membership) for layer in layers), batch, sentences
        )
        for layers, (batch, sentences) in zip(maps, batches, strict=True)
    ]


def score_in_a_loop(
    maps: Maps, batches: Sequence[Batch], spans: Sequence[Sequence[Sequence[list[int]]]]
) -> list[tuple[Any, Any]]:
    """Of each batch, what the loop over heads gives. spans: ``spans_of`` each batch."""
    return [
        peers.loop_over_heads([layer.numpy() for layer in layers], of_batch, sentences)
        for layers, (_, sentences), of_batch in zip(maps, batches, spans, strict=True)
    ]


def spans_of(batch: WordBatch) -> list[list[list[int]]]:
    """For each word of each sentence its pieces."""
    return [
        [member.nonzero().flatten().tolist() for member in row[:n].unbind()]
        for row, n in zip(batch.membership, batch.words, strict=True)
    ]


def scoring(quick: bool) -> Workload:
    """The scoring part alone: from the same piece-level maps to scored arcs."""
    sentences, tokenizer = treebank(20 if quick else 300)
    model = model_of(quick)

    def ours() -> Round:
        batches = batches_of(sentences, tokenizer)
        return timed(partial(score_as_we_do, attention_maps(model, batches), batches))

    def loop() -> Round:
        batches = batches_of(sentences, tokenizer)
        spans = [spans_of(batch) for batch, _ in batches]
        return timed(partial(score_in_a_loop, attention_maps(model, batches), batches, spans))

    return Workload(
        title="UAS on UD English EWT dev, scoring alone",
        unit="words",
        units=sum(map(len, sentences)),
        shape=shape_of(model, sentences=len(sentences), batch_pieces=BATCH_PIECES),
        contestants={"ours": ours, "loop": loop},
    )


# --- pseudo-log-likelihood ------------------------------------------------------------


def texts_of(n: int) -> tuple[list[str], PreTrainedTokenizerFast]:
    """Toy English sentences, all different, and a tokenizer of them."""
    drawn = dict.fromkeys(" ".join(s.words) for s in toy_english.sentences(2 * n, seed=6))
    texts = list(islice(drawn, n))
    return texts, train_tokenizer(texts, VOCABULARY)


def pll(quick: bool) -> Workload:
    """Pseudo-log-likelihoods; minicons with several numbers of sentences at a time."""
    texts, tokenizer = texts_of(20 if quick else 100)
    model = model_of(quick)

    def ours() -> Round:
        return timed(lambda: pseudo_log_likelihood(model, tokenizer, texts))

    def minicons(at_a_time: int) -> Round:
        if importlib.util.find_spec("minicons") is None:
            raise Unavailable("minicons is not installed: pip install minicons")
        scores = peers.minicons_scorer(model, tokenizer, at_a_time)
        return timed(lambda: scores(texts))

    return Workload(
        title="Pseudo-log-likelihoods",
        unit="sentences",
        units=len(texts),
        shape=shape_of(model, sentences=len(texts)),
        contestants={"ours": ours}
        | {f"minicons_{n}": partial(minicons, n) for n in (1, 8, 100)},
    )


def stream(quick: bool) -> Workload:
    """Pseudo-log-likelihoods of more sentences than are read at a time, by a tiny model.

    Of several windows in either case: in the first ones the allocators are still filling.
    """
    few = 50 if quick else 4 * WINDOW
    texts, tokenizer = texts_of(4 * few)
    model = model_of(quick=True)

    def ours(n: int) -> Round:
        return timed(lambda: pseudo_log_likelihood(model, tokenizer, texts[:n]))

    return Workload(
        title="Pseudo-log-likelihoods, many",
        unit="sentences",
        units=few,
        shape=shape_of(model, sentences=few, many=len(texts)),
        contestants={"quarter": partial(ours, few), "all": partial(ours, len(texts))},
    )


WORKLOADS: dict[str, Callable[[bool], Workload]] = {
    "uas": uas,
    "scoring": scoring,
    "pll": pll,
    "stream": stream,
}
