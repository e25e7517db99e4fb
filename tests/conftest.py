"""Fixtures that the tests share: a tiny BERT, its tokenizer, and sentences of our own."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

# Before torch and transformers are imported: no network, and no fight over the cores.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from sas_lib.corpus import train_tokenizer
from sas_lib.model import small_bert
from sas_lib.treebank import ROOT, Sentence

# The same random cases in every run, and no timed ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")

SUBJECTS = ["dog", "cat", "teacher", "gardener", "nightingale", "child", "baker", "king"]
VERBS = ["sees", "follows", "remembers", "misunderstands", "helps", "paints"]
OBJECTS = ["tree", "wheelbarrow", "letter", "house", "lighthouse"]
ADJECTIVES = ["old", "small", "unforgettable", "green"]


def parsed_sentence(subject: str, verb: str, adjective: str, thing: str) -> Sentence:
    """A sentence such as "the king sees that green tree ." with its tree."""
    return Sentence(
        words=("the", subject, verb, "that", adjective, thing, "."),
        heads=(1, 2, ROOT, 5, 5, 2, 2),
        relations=("det", "nsubj", "root", "det", "amod", "obj", "punct"),
    )


@pytest.fixture(scope="session")
def sentences() -> list[Sentence]:
    """960 different sentences of seven words, in a fixed order."""
    return [
        parsed_sentence(*choice)
        for choice in itertools.product(SUBJECTS, VERBS, ADJECTIVES, OBJECTS)
    ]


@pytest.fixture(scope="session")
def texts(sentences: list[Sentence]) -> list[str]:
    return [" ".join(sentence.words) for sentence in sentences]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """So small a vocabulary that the long words split into pieces."""
    return train_tokenizer(texts, 90)


@pytest.fixture(scope="session")
def model(tokenizer: PreTrainedTokenizerFast) -> BertForMaskedLM:
    """Two layers of four heads with random weights; do not train this one."""
    return sharp_bert(tokenizer)


def sharp_bert(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> BertForMaskedLM:
    """A tiny random BERT. Its queries and keys are scaled up: as initialised, attention is
    so even that rounding would decide which word gets most of it."""
    model = small_bert(len(tokenizer), layers=2, width=32, heads=4, max_length=40, seed=seed)
    for layer in model.bert.encoder.layer:
        layer.attention.self.query.weight.data *= 25
        layer.attention.self.key.weight.data *= 25
    return model.eval()


@pytest.fixture(scope="session")
def sas_data() -> Path:
    """The folder of real data, where there is one."""
    if not os.environ.get("SAS_DATA"):
        pytest.skip("no real data: SAS_DATA names no folder")
    folder = Path(os.environ["SAS_DATA"])
    assert folder.is_dir(), f"SAS_DATA names {folder}, which is no folder"
    return folder
