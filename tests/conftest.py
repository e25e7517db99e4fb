"""What the tests share: a tiny BERT, its tokenizer, sentences of our own, the command line."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Before torch and transformers are imported: no network, and no fight over the cores.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest
import torch
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from sas_lib import cli
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
def model_folder(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """``model`` and ``tokenizer`` as they are saved; write to a copy, not to this one."""
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def spoil(folder: Path) -> None:
    """Make one weight of a saved model NaN."""
    model = BertForMaskedLM.from_pretrained(folder)
    model.bert.encoder.layer[1].output.dense.weight.data[0, 0] = torch.nan
    model.save_pretrained(folder)


class Result(NamedTuple):
    """What a command leaves behind: exit status, standard output, standard error."""

    code: int
    out: str
    err: str


Sas = Callable[..., Result]


@pytest.fixture
def sas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sas:
    """Run the command line in this process, through its entry point."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["sas", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        assert isinstance(code, int)
        return Result(code, *capsys.readouterr())

    return run


def one_line_error(result: Result, *parts: object, printed: bool = False) -> None:
    """The command failed with a line that has these parts.

    printed: there were results before the error, which are on standard output.
    """
    assert result.code == 1
    assert (result.out != "") == printed
    message = result.err.splitlines()[-1]
    assert message.startswith("sas: ") and "Traceback" not in result.err
    for part in parts:
        assert str(part) in message


@pytest.fixture(scope="session")
def sas_data() -> Path:
    """The folder of real data, where there is one."""
    if not os.environ.get("SAS_DATA"):
        pytest.skip("no real data: SAS_DATA names no folder")
    folder = Path(os.environ["SAS_DATA"])
    assert folder.is_dir(), f"SAS_DATA names {folder}, which is no folder"
    return folder
