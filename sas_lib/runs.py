"""Whole runs: a corpus, its tokenizer, the measures, and the loop put together.

``toy_run`` trains on toy English; ``text_run`` on files of plain text, measured on a
treebank and on minimal pairs.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from sas_lib import toy_english
from sas_lib.blimp import read_pairs
from sas_lib.corpus import encode, train_tokenizer
from sas_lib.measures import bigram_pairs_measure, pairs_measure, uas_measure
from sas_lib.minimal_pairs import equal_pieces
from sas_lib.model import load, word_attention, word_batch
from sas_lib.ngrams import BigramModel
from sas_lib.pretraining import Data, Measure, check_start, finished, pretrain
from sas_lib.regularizer import RELINK
from sas_lib.settings import Config
from sas_lib.text import CorpusError, read_text
from sas_lib.treebank import Sentence, read_conllu

Text = Sentence | str  # parsed or plain

# Seeds of the grammar: the corpus is one and the same for all runs, and what a model is
# tested on is drawn apart from it. A run's seed sets the weights, the order and the masks.
TRAIN_SEED, VALID_SEED, TREEBANK_SEED, PAIRS_SEED, LINKS_SEED = 1, 2, 3, 4, 5


def toy_data(config: Config, sentences: int = 100_000, quiet: bool = False) -> Data:
    """Toy English, encoded: the training corpus and 1,000 validation sentences."""
    generated = list(
        tqdm(
            toy_english.sentences(sentences, TRAIN_SEED),
            "toy English",
            sentences,
            disable=quiet,
        )
    )
    tokenizer = train_tokenizer((" ".join(s.words) for s in generated), config.vocab_size)
    valid = toy_english.sentences(1000, VALID_SEED)
    train = tqdm(_relinked(generated, config.penalty), "encoding", sentences, disable=quiet)
    return Data(
        tokenizer,
        encode(train, tokenizer, config.max_length),
        encode(valid, tokenizer, config.max_length),
    )


def _relinked(sentences: Iterable[Text], kind: str) -> Iterator[Text]:
    """The sentences with the links of a control, where ``kind`` is one."""
    rng = np.random.default_rng(LINKS_SEED)
    relink = RELINK.get(kind)
    for sentence in sentences:
        if relink and isinstance(sentence, Sentence):
            yield replace(sentence, heads=tuple(relink(sentence, rng)))
        else:
            yield sentence


def toy_measures(data: Data, treebank: int = 300, pairs: int = 10) -> list[Measure]:
    """UAS on gold toy trees and minimal pairs, small enough to take at each checkpoint."""
    gold = list(toy_english.sentences(treebank, TREEBANK_SEED))
    chosen = toy_pairs(data.tokenizer, pairs)
    bigram = BigramModel.fit(data.train, data.tokenizer.all_special_ids, len(data.tokenizer))
    return [
        uas_measure(gold, full_map=True),
        pairs_measure(chosen),
        bigram_pairs_measure(bigram, data.tokenizer, chosen),
    ]


@dataclass(frozen=True)
class ToyText:
    """Toy English as the material of a sweep: so many sentences to learn from."""

    sentences: int = 100_000

    def data(self, config: Config) -> Data:
        """The sentences of a run with this configuration."""
        return toy_data(config, self.sentences, quiet=True)

    def measures(self, data: Data) -> list[Measure]:
        """What is measured at its checkpoints."""
        return toy_measures(data)


def toy_pairs(tokenizer: PreTrainedTokenizerFast, n: int) -> dict[str, list[tuple[str, str]]]:
    """The first ``n`` toy pairs of each paradigm whose members have equally many pieces.

    A pseudo-log-likelihood is a sum over pieces, so a model that has learnt nothing prefers
    the sentence with fewer of them. Among these pairs it is at chance.

    Raises:
        CorpusError: a paradigm has no such pair, the vocabulary being too small.
    """
    drawn = toy_english.minimal_pairs(6 * n, PAIRS_SEED)
    given = {name: [(p.good, p.bad) for p in rows] for name, rows in drawn.items()}
    chosen = {name: rows[:n] for name, rows in equal_pieces(given, tokenizer).items()}
    if none := [name for name in given if name not in chosen]:
        raise CorpusError(
            f"with a vocabulary of {len(tokenizer)} pieces no minimal pair of {none[0]} has "
            "equally many pieces in both sentences; allow more pieces or train on more"
        )
    return chosen


def toy_run(
    out: str | os.PathLike[str],
    config: Config,
    sentences: int = 100_000,
    resume: bool = False,
    device: str = "cpu",
    quiet: bool = False,
    stop_at: int | None = None,
    keep: int | None = None,
) -> Path:
    """Train on toy English; returns the metrics file."""
    check_start(out, resume, device)
    if metrics := finished(out, config):
        return metrics
    data = toy_data(config, sentences, quiet)
    measures = toy_measures(data)
    return pretrain(out, config, data, measures, resume, device, quiet, stop_at, keep)


# Checkpoints, as shares of the run, at which the attention explorer looks.
EXPLORED = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)


def explored_sentences(n: int = 4, words: range = range(8, 12)) -> list[Sentence]:
    """The first ``n`` sentences of the gold toy treebank of 8 to 11 words with a clause in
    them, so that an explorer has arcs of some length to show."""
    clauses = {"acl:relcl", "ccomp", "advcl"}
    found = (
        sentence
        for sentence in toy_english.sentences(None, TREEBANK_SEED)
        if len(sentence) in words and clauses & set(sentence.relations)
    )
    return list(itertools.islice(found, n))


def attention_tables(run: str | os.PathLike[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Word-level attention of a run's checkpoints on the explored sentences.

    Returns two tables: (sentence, step, layer, head, attending, attended, weight) and
    (sentence, position, word, head, relation), positions from 0 and -1 for the root.
    """
    sentences = explored_sentences()
    folders = sorted((Path(run) / "checkpoints").glob("step-*"))
    last = int(folders[-1].name.removeprefix("step-"))
    steps = np.array([int(folder.name.removeprefix("step-")) for folder in folders])
    nearest = sorted({int(np.abs(steps - share * last).argmin()) for share in EXPLORED})
    weights = []
    for folder, step in ((folders[i], steps[i]) for i in nearest):
        model, tokenizer = load(folder)
        batch = word_batch([s.words for s in sentences], tokenizer)
        maps = torch.stack(list(word_attention(model, batch)), dim=1).numpy()
        for number, sentence in enumerate(sentences):
            n = len(sentence)
            index = np.indices(maps[number, :, :, :n, :n].shape).reshape(4, -1)
            frame = pd.DataFrame(
                index.T.astype("int8"), columns=["layer", "head", "attending", "attended"]
            )
            frame.insert(0, "step", np.int32(step))
            frame.insert(0, "sentence", np.int8(number))
            frame["weight"] = maps[number, :, :, :n, :n].reshape(-1)
            weights.append(frame[frame["attending"] != frame["attended"]])
    gold = pd.DataFrame(
        [
            (number, position, word, head, relation)
            for number, s in enumerate(sentences)
            for position, (word, head, relation) in enumerate(
                zip(s.words, s.heads, s.relations, strict=True)
            )
        ],
        columns=["sentence", "position", "word", "head", "relation"],
    )
    return pd.concat(weights, ignore_index=True), gold


def run_config(run: str | os.PathLike[str]) -> dict[str, object]:
    """The settings of a run folder."""
    settings: dict[str, object] = json.loads((Path(run) / "config.json").read_text())
    return settings


def _sentences(file: str | os.PathLike[str]) -> Iterator[Text]:
    """The sentences of a file, parsed where it is CoNLL-U."""
    return read_conllu(file) if ".conllu" in Path(file).suffixes else iter(read_text(file))


def text_of(sentence: Text) -> str:
    """The words of a sentence, set apart by spaces."""
    return " ".join(sentence.words) if isinstance(sentence, Sentence) else sentence


def text_data(
    files: Sequence[str | os.PathLike[str]], config: Config, quiet: bool = False
) -> Data:
    """Text, encoded; every 400th sentence, 1,000 at most, is kept for validation."""
    texts = itertools.chain.from_iterable(_sentences(file) for file in files)
    sentences = list(tqdm(texts, "reading", unit=" sentences", disable=quiet))
    held = set(range(0, len(sentences), 400)[:1000])
    if len(held) < 2:
        raise CorpusError(f"{len(sentences)} sentences are too few to train on")
    plain = tqdm(map(text_of, sentences), "tokenizer", len(sentences), disable=quiet)
    tokenizer = train_tokenizer(plain, config.vocab_size)
    train = _relinked((s for i, s in enumerate(sentences) if i not in held), config.penalty)
    progress = tqdm(train, "encoding", len(sentences) - len(held), disable=quiet)
    return Data(
        tokenizer,
        encode(progress, tokenizer, config.max_length),
        encode([sentences[i] for i in sorted(held)], tokenizer, config.max_length),
    )


def text_measures(
    treebank: str | os.PathLike[str] | None,
    pairs: str | os.PathLike[str] | None,
    pairs_limit: int = 20,
    sentences: int | None = None,
) -> list[Measure]:
    """UAS on a treebank and accuracy on minimal pairs, of those that are given.

    pairs_limit: pairs of each paradigm. sentences: of the treebank the first so many.
    """
    measures: list[Measure] = []
    if treebank is not None:
        gold: list[Sentence] = list(itertools.islice(read_conllu(treebank), sentences))
        measures.append(uas_measure(gold))
    if pairs is not None:
        measures.append(pairs_measure(read_pairs(pairs, pairs_limit)))
    return measures


def text_run(
    out: str | os.PathLike[str],
    config: Config,
    files: Sequence[str | os.PathLike[str]],
    treebank: str | os.PathLike[str] | None = None,
    pairs: str | os.PathLike[str] | None = None,
    pairs_limit: int = 20,
    resume: bool = False,
    device: str = "cpu",
    quiet: bool = False,
    keep: int | None = None,
) -> Path:
    """Train on text, measuring UAS on ``treebank`` and accuracy on ``pairs``.

    files: plain text, or parsed sentences as CoNLL-U (``.conllu``); they can be mixed.
    """
    check_start(out, resume, device)
    if metrics := finished(out, config):
        return metrics
    measures = text_measures(treebank, pairs, pairs_limit)
    data = text_data(files, config, quiet)
    return pretrain(out, config, data, measures, resume, device, quiet, keep=keep)
