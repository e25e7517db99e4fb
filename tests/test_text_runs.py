"""Runs on files: plain text, parsed sentences, both together, and lines that are no good."""

from __future__ import annotations

import dataclasses
import lzma
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pretraining import TINY, column, metrics
from transformers import PreTrainedTokenizerFast

from sas_lib import runs
from sas_lib.corpus import NO_HEAD
from sas_lib.learner import Learner
from sas_lib.parallel import Parallel
from sas_lib.pretraining import RunError
from sas_lib.runs import text_data, text_run
from sas_lib.text import CorpusError, read_text
from sas_lib.treebank import Sentence, TreebankError, write_conllu

SMALL = dataclasses.replace(TINY, layers=1, width=16, steps=4, even_checkpoints=1)
PENALISED = dataclasses.replace(SMALL, sas_schedule=((0, 1.0),))


@pytest.fixture(scope="module")
def parsed(sentences: list[Sentence], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "parsed.conllu"
    write_conllu(sentences[:480], path)
    return path


@pytest.fixture(scope="module")
def plain(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "plain.txt"
    path.write_text("\n\n".join(texts[480:]) + "\n")
    return path


@pytest.fixture(scope="module")
def same_as_text(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sentences of ``parsed`` without their trees."""
    path = tmp_path_factory.mktemp("corpus") / "same.txt"
    path.write_text("\n".join(texts[:480]) + "\n")
    return path


def test_parsed_sentences_are_read_as_text_with_heads(parsed: Path, same_as_text: Path) -> None:
    gold, bare = (text_data([file], TINY, quiet=True) for file in (parsed, same_as_text))
    assert gold.tokenizer.get_vocab() == bare.tokenizer.get_vocab()
    for ours, theirs in ((gold.train, bare.train), (gold.valid, bare.valid)):
        assert np.array_equal(ours.pieces, theirs.pieces)
        assert np.array_equal(ours.starts, theirs.starts)
        assert theirs.heads is None and ours.heads is not None
        # Seven words with one root: six arcs in each sentence.
        assert (ours.heads != NO_HEAD).sum() == 6 * len(ours)
    assert (len(gold.train), len(gold.valid)) == (478, 2), "sentences 0 and 400 are held out"


def test_a_compressed_treebank_is_one_too(parsed: Path, tmp_path: Path) -> None:
    packed = tmp_path / "parsed.conllu.xz"
    packed.write_bytes(lzma.compress(parsed.read_bytes()))
    one, other = (text_data([file], TINY, quiet=True) for file in (parsed, packed))
    assert one.fingerprint() == other.fingerprint()


def test_a_run_on_parsed_sentences_can_be_penalised(
    parsed: Path, same_as_text: Path, tmp_path: Path
) -> None:
    text_run(tmp_path / "gold", PENALISED, [parsed], quiet=True)
    penalties = column(tmp_path / "gold", "train_penalty")
    assert penalties and all(value > 0 for value in penalties.values())
    assert 0 < column(tmp_path / "gold", "gold_arc_attention")[4] < 1
    with pytest.raises(RunError, match=r"needs parsed sentences, .* give CoNLL-U files"):
        text_run(tmp_path / "bare", PENALISED, [same_as_text], quiet=True)
    assert not (tmp_path / "bare").exists()
    # Without a penalty a tree makes no difference to what is learnt.
    for name, file in (("with", parsed), ("without", same_as_text)):
        text_run(tmp_path / name, SMALL, [file], quiet=True)
    ours, theirs = (column(tmp_path / name, "valid_loss") for name in ("with", "without"))
    assert ours == theirs


def test_a_mixed_corpus_is_penalised_where_it_is_parsed(
    parsed: Path, plain: Path, tmp_path: Path
) -> None:
    text_run(tmp_path / "run", PENALISED, [parsed, plain], quiet=True)
    assert all(value > 0 for value in column(tmp_path / "run", "train_penalty").values())
    assert all(math.isfinite(row["value"]) for row in metrics(tmp_path / "run"))


def test_sentences_without_a_parse_contribute_nothing(parsed: Path, plain: Path) -> None:
    """Batches of plain sentences have no penalty and no gradient of it; in a mixed batch it
    is that of the parsed sentences, spread over all."""
    data = text_data([parsed, plain], TINY, quiet=True)
    config = dataclasses.replace(PENALISED, dropout=0.0)
    learner = Learner(config, data.tokenizer, data.train, Parallel(torch.device("cpu")))
    assert data.train.heads is not None
    first = data.train.starts[:-1]
    has_tree = np.maximum.reduceat(data.train.heads, first) != NO_HEAD
    assert has_tree.sum() == 478 and (~has_tree).sum() == 479, "3 sentences are held out"
    trees, bare = np.flatnonzero(has_tree)[:4], np.flatnonzero(~has_tree)[:4]

    def value(numbers: np.ndarray) -> torch.Tensor:
        from sas_lib.batches import step_generator
        from sas_lib.regularizer import watching

        batch = learner.corpus.batch(numbers, step_generator(0, 0))
        own = data.train.batch(numbers, data.tokenizer.pad_token_id)
        penalty = learner.penalty(batch)
        with watching(learner.model, penalty):  # unmasked, so that rows can be compared
            learner.model(input_ids=own["input_ids"], attention_mask=batch.attention_mask)
        return penalty.value()

    nothing = value(bare)
    assert nothing.item() == 0
    nothing.backward()
    assert not any(p.grad.any() for p in learner.model.parameters() if p.grad is not None)
    alone, mixed = value(trees).item(), value(np.concatenate([trees, bare])).item()
    assert alone > 0 and mixed == pytest.approx(alone / 2, rel=1e-5)


@pytest.mark.parametrize("kind", ["random_trees", "next_word", "random_pairs"])
def test_a_control_relinks_the_parsed_sentences_alone(
    parsed: Path, plain: Path, kind: str
) -> None:
    config = dataclasses.replace(TINY, penalty=kind)
    gold, control = (text_data([parsed, plain], c, quiet=True) for c in (TINY, config))
    assert gold.train.heads is not None and control.train.heads is not None
    assert np.array_equal(gold.train.pieces, control.train.pieces)
    assert not np.array_equal(gold.train.heads, control.train.heads)
    starts = gold.train.starts[:-1]
    for heads in (gold.train.heads, control.train.heads):
        linked = np.maximum.reduceat(heads, starts) != NO_HEAD
        assert linked.sum() == 478
    assert gold.valid.heads is not None and control.valid.heads is not None
    assert np.array_equal(gold.valid.heads, control.valid.heads), "measured on gold arcs"


# --- lines that are no good -----------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"A caf\xe9 is in this line.", r"line 3: no UTF-8 text at character 6 \(byte 0xe9\)"),
        (b"A surrogate \xed\xa0\x80 is in this one.", r"line 3: .* character 13 \(byte 0xed\)"),
        (b"It ends in the middle of \xe2\x82", r"line 3: .* character 26 \(byte 0xe2\)"),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".txt.xz"])
def test_a_bad_line_of_text_is_named(
    tmp_path: Path, texts: list[str], line: bytes, says: str, suffix: str
) -> None:
    path = tmp_path / f"bad{suffix}"
    # A line before it has letters beyond ASCII, which are no error.
    content = "\n".join([texts[0], "Déjà vu in the café €"]).encode() + b"\n" + line + b"\n"
    path.write_bytes(lzma.compress(content) if suffix.endswith("xz") else content)
    with pytest.raises(CorpusError, match=f"bad{suffix}, {says}; mend"):
        text_run(tmp_path / "run", SMALL, [path], quiet=True)
    assert not (tmp_path / "run").exists()


def test_good_lines_beyond_ascii_are_read_as_they_are(tmp_path: Path) -> None:
    lines = ["Déjà vu in the café €", "Ünïcödé 𝔘 with all it has \ufffd", "\u2028 a b c d"]
    (tmp_path / "good.txt").write_text("\r\n".join(lines), encoding="utf-8")
    assert list(read_text(tmp_path / "good.txt")) == [line.strip() for line in lines]


def test_a_bad_line_of_a_treebank_is_named(parsed: Path, tmp_path: Path) -> None:
    lines = parsed.read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if i > 500 and line.startswith("3\t"))
    bad = tmp_path / "bad.conllu"
    bad.write_text(
        "".join([*lines[:number], lines[number].replace("\t", " "), *lines[number + 1 :]])
    )
    with pytest.raises(TreebankError, match=rf"bad.conllu, line {number + 1}, .* 10 columns"):
        text_run(tmp_path / "run", SMALL, [parsed, bad], quiet=True)
    cells = lines[number].split("\t")
    cells[6] = "3"  # the root is its own head
    bad.write_text("".join([*lines[:number], "\t".join(cells), *lines[number + 1 :]]))
    with pytest.raises(TreebankError, match=r"bad.conllu, line \d+, .*not a tree: 0 roots"):
        text_run(tmp_path / "run", SMALL, [bad], quiet=True)
    assert not (tmp_path / "run").exists()


def test_toy_pairs_need_pairs_of_equal_length(tokenizer: PreTrainedTokenizerFast) -> None:
    """Where the vocabulary is too small for any, that is said."""
    with pytest.raises(CorpusError, match=r"of 90 pieces no minimal pair of \w+ has equally"):
        runs.toy_pairs(tokenizer, 1)
