"""Workloads of training: the step of a run, with and without the penalty."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Trainer

from benchmarks.contest import Build, Round, Workload
from benchmarks.peers import (
    LAMBDA,
    Collator,
    EveryPosition,
    Published,
    PublishedWithoutPower,
    Stamps,
    make_trainer,
)
from sas_lib import toy_english
from sas_lib.batches import length_batches
from sas_lib.corpus import SPECIAL_TOKENS, EncodedCorpus, encode, train_tokenizer
from sas_lib.learner import Learner
from sas_lib.model import small_bert
from sas_lib.parallel import Parallel
from sas_lib.settings import MINI, TOY, Config

PENALISED = ((0, LAMBDA),)  # from step 0 on


@dataclass(frozen=True)
class Course:
    """What all contestants train on: the same batches, in the same order.

    The first step of a round is not timed: the Trainer sets itself up in it.
    """

    config: Config
    tokenizer: PreTrainedTokenizerFast
    corpus: EncodedCorpus
    steps: int

    @property
    def batches(self) -> np.ndarray:
        """Sentence numbers, [steps + 1, batch]."""
        c = self.config
        return length_batches(self.corpus.lengths, c.batch_size, c.seed, 0)[: self.steps + 1]

    @property
    def tokens(self) -> int:
        """Pieces, padding left out, of the steps that are timed."""
        return int(self.corpus.lengths[self.batches[1:]].sum())

    def make_learner(self, kind: type[Learner] = Learner, penalised: bool = False) -> Learner:
        config = replace(self.config, sas_schedule=PENALISED if penalised else ())
        return kind(config, self.tokenizer, self.corpus, Parallel(torch.device("cpu")))

    def learner(self, kind: type[Learner] = Learner, penalised: bool = False) -> Build:
        def build() -> Round:
            learner = self.make_learner(kind, penalised)

            def round_() -> float:
                learner.update(0)
                began = time.perf_counter()
                for step in range(1, self.steps + 1):
                    learner.update(step)
                return time.perf_counter() - began

            return round_

        return build

    def make_trainer(
        self, attention: str, collator: Collator | None = None
    ) -> tuple[Trainer, Stamps]:
        c, starts = self.config, self.corpus.starts
        model = small_bert(
            len(self.tokenizer), c.layers, c.width, c.heads, c.max_length, c.dropout, c.seed
        )
        model.set_attn_implementation(attention)
        rows = [
            self.corpus.pieces[starts[n] : starts[n + 1]].tolist()
            for n in self.batches.flatten()
        ]
        return make_trainer(model, self.tokenizer, rows, c, self.steps + 1, collator)

    def trainer(self, attention: str) -> Build:
        def build() -> Round:
            trainer, stamps = self.make_trainer(attention)

            def round_() -> float:
                stamps.times.clear()
                trainer.train()
                return stamps.times[-1] - stamps.times[0]

            return round_

        return build

    def shape(self) -> dict[str, Any]:
        """What the work is, for the record."""
        c = self.config
        lengths = self.corpus.lengths[self.batches[1:]]
        return {
            "layers": c.layers,
            "width": c.width,
            "heads": c.heads,
            "vocabulary": len(self.tokenizer),
            "batch": c.batch_size,
            "mask_rate": c.mask_rate,
            "mean_pieces": round(float(lengths.mean()), 1),
            "longest": int(lengths.max()),
            "steps_a_round": self.steps,
        }

    def workload(self, title: str) -> Workload:
        return Workload(
            title=title,
            unit="tokens",
            units=self.tokens,
            shape=self.shape(),
            contestants={
                "ours": self.learner(),
                "ours_penalised": self.learner(penalised=True),
                "trainer_eager": self.trainer("eager"),
                "trainer_sdpa": self.trainer("sdpa"),
                "every_position": self.learner(EveryPosition),
                "published": self.learner(Published),
                "published_without_power": self.learner(PublishedWithoutPower),
            },
        )


def packed_course(quick: bool) -> Course:
    """4 x 256, full rows of 128 pieces, each linked to another."""
    config = replace(MINI, batch_size=16, warmup_steps=0)
    if quick:
        config = replace(config, layers=2, width=32, vocab_size=500, max_length=24)
    steps = 2 if quick else 3
    tokenizer = tokenizer_of_size(config.vocab_size)
    rng = np.random.default_rng(0)
    shape = (config.batch_size * (steps + 1), config.max_length)
    # Which pieces they are makes no difference to the speed.
    pieces = rng.integers(len(SPECIAL_TOKENS), config.vocab_size, shape, dtype=np.int32)
    heads = rng.integers(1, shape[1] - 1, shape, dtype=np.int16)
    pieces[:, 0], pieces[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    heads[:, [0, -1]] = -1
    corpus = EncodedCorpus(pieces.ravel(), np.arange(shape[0] + 1) * shape[1], heads.ravel())
    return Course(config, tokenizer, corpus, steps)


def packed(quick: bool) -> Workload:
    return packed_course(quick).workload("packed rows")


def toy_course(quick: bool, steps: int) -> Course:
    """The model and the sentences of the toy runs, with gold trees."""
    config = replace(TOY, warmup_steps=0)
    if quick:
        config = replace(config, layers=2, width=32, batch_size=8)
    sentences = list(toy_english.sentences(1000 if quick else 10_000, seed=1))
    tokenizer = train_tokenizer((" ".join(s.words) for s in sentences), config.vocab_size)
    used = list(islice(sentences, config.batch_size * (steps + 1)))
    corpus = encode(used, tokenizer, config.max_length)
    return Course(config, tokenizer, corpus, steps)


def toy(quick: bool) -> Workload:
    return toy_course(quick, steps=3 if quick else 20).workload("toy English")


def tokenizer_of_size(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with a vocabulary of exactly this size, for pieces that are numbers."""
    names = [*SPECIAL_TOKENS, *(f"piece{n}" for n in range(size - len(SPECIAL_TOKENS)))]
    words = models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="[UNK]")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


WORKLOADS: dict[str, Callable[[bool], Workload]] = {"packed": packed, "toy": toy}
