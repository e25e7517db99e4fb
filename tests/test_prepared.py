"""Prepared corpora: the same as the text they are made of, whole or not there at all."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import lzma
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Sas, one_line_error
from filelock import FileLock
from test_pretraining import TINY, metrics
from transformers import PreTrainedTokenizerFast

from sas_lib import corpus_files, downloads, prepared
from sas_lib.batches import ResidentCorpus, step_generator
from sas_lib.corpus import NO_HEAD, EncodedCorpus, train_tokenizer
from sas_lib.downloads import DownloadError
from sas_lib.prepared import PreparedError, open_prepared, prepare, prepared_run
from sas_lib.pretraining import Data, RunError
from sas_lib.runs import text_data, text_measures, text_run
from sas_lib.text import CorpusError
from sas_lib.treebank import Sentence, TreebankError, write_conllu

SIZES = {"vocab_size": TINY.vocab_size, "max_length": TINY.max_length}
RUN = dataclasses.replace(TINY, steps=6, even_checkpoints=2, sas_schedule=((2, 0.5),))


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """So that a small corpus has several, and some with parsed and plain sentences."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_files, "BLOCK", 100)
        yield


@pytest.fixture(scope="module")
def files(
    sentences: list[Sentence], texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """480 parsed sentences, 480 plain ones, and the two files' own order."""
    folder = tmp_path_factory.mktemp("text")
    write_conllu(sentences[:480], folder / "parsed.conllu")
    plain = "\n\n".join(texts[480:]) + "\n"
    (folder / "plain.txt.xz").write_bytes(lzma.compress(plain.encode()))
    return [folder / "parsed.conllu", folder / "plain.txt.xz"]


@pytest.fixture(scope="module")
def whole(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two files, prepared with the links of all controls; change a copy, not this one."""
    out = tmp_path_factory.mktemp("prepared") / "corpus"
    controls = ["random_trees", "next_word", "random_pairs"]
    prepare(out, files, **SIZES, controls=controls, quiet=True)
    return out


@pytest.fixture
def corpus(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "corpus")


def same(ours: EncodedCorpus, theirs: EncodedCorpus) -> bool:
    assert (ours.heads is None) == (theirs.heads is None)
    return (
        np.array_equal(ours.pieces, theirs.pieces)
        and np.array_equal(ours.starts, theirs.starts)
        and (ours.heads is None or np.array_equal(ours.heads, theirs.heads))
    )


def same_data(ours: Data, theirs: Data) -> bool:
    assert ours.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()
    return same(ours.train, theirs.train) and same(ours.valid, theirs.valid)


# --- the same as the text -------------------------------------------------------------


@pytest.mark.parametrize("penalty", ["sas", "random_trees", "next_word", "random_pairs"])
def test_a_prepared_corpus_is_the_text_it_is_made_of(
    files: list[Path], whole: Path, penalty: str
) -> None:
    config = dataclasses.replace(TINY, penalty=penalty)
    data = open_prepared(whole, penalty)
    assert same_data(data, text_data(files, config, quiet=True))
    assert (len(data.train), len(data.valid)) == (957, 3)


def test_the_penalties_that_weigh_gold_links_get_them(whole: Path) -> None:
    gold = open_prepared(whole)
    for kind in ("random_heads", "sharpness"):
        assert same_data(open_prepared(whole, kind), gold)


@pytest.mark.parametrize("which", [0, 1])
def test_of_one_file_too(files: list[Path], tmp_path: Path, which: int) -> None:
    """Parsed alone, or plain alone, which has no heads."""
    prepare(tmp_path / "corpus", [files[which]], **SIZES, quiet=True)
    data = open_prepared(tmp_path / "corpus")
    assert same_data(data, text_data([files[which]], TINY, quiet=True))
    assert (data.train.heads is None) == (which == 1)


def test_a_run_on_it_is_the_run_on_the_text(
    files: list[Path], whole: Path, sentences: list[Sentence], tmp_path: Path
) -> None:
    write_conllu(sentences[:20], tmp_path / "gold.conllu")
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    pair = {"sentence_good": "the dog sees that tree .", "sentence_bad": "the dog tree sees ."}
    (pairs / "order.jsonl").write_text(json.dumps(pair) + "\n")
    given = (tmp_path / "gold.conllu", pairs)
    text_run(tmp_path / "text", RUN, files, *given, quiet=True)
    prepared_run(tmp_path / "prepared", RUN, whole, text_measures(*given), quiet=True)
    ours, theirs = (metrics(tmp_path / name) for name in ("prepared", "text"))
    timed = {"tokens_per_second", "flops_utilisation"}
    ours, theirs = ([r for r in rows if r["metric"] not in timed] for rows in (ours, theirs))
    assert ours == theirs
    names = {row["metric"] for row in ours}
    assert {"train_penalty", "gold_arc_attention", "uas_best_head", "pairs_accuracy"} <= names
    assert any(row["metric"] == "train_penalty" and row["value"] > 0 for row in ours)
    last = [p / "checkpoints" / "step-000006" / "model.safetensors" for p in (
        tmp_path / "text", tmp_path / "prepared")]  # fmt: skip
    assert last[0].read_bytes() == last[1].read_bytes()


def test_a_run_goes_on_and_knows_its_corpus(
    whole: Path, files: list[Path], tmp_path: Path
) -> None:
    config = dataclasses.replace(RUN, sas_schedule=())
    prepared_run(tmp_path / "unbroken", config, whole, quiet=True)
    prepared_run(tmp_path / "run", config, whole, quiet=True, stop_at=4)
    path = prepared_run(tmp_path / "run", config, whole, resume=True, quiet=True)
    losses = [
        [r for r in metrics(tmp_path / name) if r["metric"] == "valid_loss"]
        for name in ("unbroken", "run")
    ]
    assert losses[0] == losses[1] and losses[0][-1]["step"] == 6
    done = prepared_run(tmp_path / "run", config, tmp_path / "gone", resume=True, quiet=True)
    assert done == path, "a run that is complete needs no corpus"
    prepare(tmp_path / "other", files[:1], tokenizer=whole / "tokenizer",
            max_length=TINY.max_length, quiet=True)  # fmt: skip
    longer = dataclasses.replace(config, vocab_size=len(open_prepared(whole).tokenizer))
    prepared_run(tmp_path / "begun", longer, tmp_path / "other", quiet=True, stop_at=2)
    with pytest.raises(PreparedError, match="was prepared with the vocab_size 90"):
        prepared_run(tmp_path / "new", dataclasses.replace(config, vocab_size=91), whole)
    with pytest.raises(PreparedError, match="was prepared with the max_length 40"):
        prepared_run(tmp_path / "new", dataclasses.replace(config, max_length=41), whole)
    assert not (tmp_path / "new").exists()


def test_files_for_validation_and_a_tokenizer_can_be_given(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    manifest = prepare(
        tmp_path / "corpus", files[1:], files[:1], tokenizer=tokenizer, quiet=True
    )
    data = open_prepared(tmp_path / "corpus")
    assert (len(data.train), len(data.valid)) == (480, 480)
    assert data.train.heads is None and data.valid.heads is not None
    assert data.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert manifest["settings"] == {"vocab_size": len(tokenizer), "max_length": 128}
    ids = data.valid.pieces[: data.valid.starts[1]]
    assert data.tokenizer.decode(ids) == "[CLS] the dog sees that old tree. [SEP]"


@pytest.mark.parametrize(("total", "every"), [(1000, 400), (400_000, 400), (500_000, 500)])
def test_an_even_share_of_the_sentences_is_kept_back(total: int, every: int) -> None:
    held: list[Any] = []
    left = list(prepared._keep_back(map(str, range(total)), total, held))
    assert held == [str(n) for n in range(0, total, every)] and len(held) <= 1000
    assert left == [str(n) for n in range(total) if n % every]


@pytest.mark.parametrize(
    ("n", "stride"), [(9, 1), (10, 1), (11, 2), (20, 2), (21, 4), (95, 16)]
)
def test_a_tokenizer_is_trained_on_an_even_sample(n: int, stride: int) -> None:
    """Never more than ten of them, counted by hand."""
    assert prepared._spread(map(str, range(n)), 10) == list(map(str, range(0, n, stride)))


def test_no_more_is_kept_in_memory_than_that_sample(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences are read as they are written; the tokenizer's sample is what is kept."""
    samples: list[int] = []

    def train(texts: list[str], size: int) -> PreTrainedTokenizerFast:
        samples.append(len(texts))
        return train_tokenizer(texts, size)

    monkeypatch.setattr(prepared, "train_tokenizer", train)
    monkeypatch.setattr(prepared, "SAMPLE", 300)
    read = written = ahead = 0
    write = corpus_files.CorpusWriter._write

    def reading(sources: Any) -> Iterator[Any]:
        nonlocal read, ahead
        for sentence in itertools.chain.from_iterable(map(prepared.read_sentences, sources)):
            read += 1
            ahead = max(ahead, read - 960 - written)  # the first reading is the tokenizer's
            yield sentence

    def writing(self: corpus_files.CorpusWriter, block: list[Any]) -> None:
        nonlocal written
        write(self, block)
        written += len(block)

    monkeypatch.setattr(prepared, "_read", reading)
    monkeypatch.setattr(corpus_files.CorpusWriter, "_write", writing)
    prepare(tmp_path / "corpus", files, **SIZES, quiet=True)
    assert samples == [240], "every fourth of 960"
    assert (read, written) == (1920, 960) and ahead <= 100 + 3


def test_the_same_text_gives_the_same_files(
    files: list[Path], whole: Path, tmp_path: Path
) -> None:
    again = prepare(
        tmp_path / "again",
        files,
        **SIZES,
        controls=["next_word", "random_pairs", "random_trees", "next_word"],
        quiet=True,
    )
    assert again == prepared.read_prepared(whole)


# --- what is in the folder ------------------------------------------------------------


def test_the_manifest_says_what_it_was_made_of(files: list[Path], whole: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    assert [facts["name"] for facts in manifest["inputs"]["train"]] == [f.name for f in files]
    for facts, file in zip(manifest["inputs"]["train"], files, strict=True):
        assert facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert str(files[0].parent) not in json.dumps(manifest)
    data = open_prepared(whole)
    # Seven words a sentence; 480 parsed ones, of which numbers 0 and 400 are kept back.
    pieces = len(data.train.pieces)
    expected = {"sentences": 957, "parsed": 478, "words": 957 * 7, "pieces": pieces}
    assert manifest["train"] == expected and manifest["valid"]["parsed"] == 2
    names = {p.relative_to(whole).as_posix() for p in whole.rglob("*") if p.is_file()}
    assert names == {"manifest.json", *manifest["files"]}
    assert {"train/heads.npy", "train/heads-random_trees.npy", "valid/heads.npy"} <= names
    assert "valid/heads-random_trees.npy" not in names


def test_arrays_are_narrow_and_stay_on_disk(
    whole: Path, files: list[Path], tmp_path: Path
) -> None:
    data = open_prepared(whole)
    assert data.train.heads is not None
    for array, dtype in (
        (data.train.pieces, np.int16),
        (data.train.heads, np.int8),
        (data.train.starts, np.int64),
    ):
        assert array.dtype == dtype and isinstance(array.base, np.memmap)
    before = (whole / "train" / "pieces.npy").read_bytes()
    data.train.pieces[:] = 0  # what is done in memory does not reach the file
    assert (whole / "train" / "pieces.npy").read_bytes() == before
    prepare(tmp_path / "long", files[:1], vocab_size=90, max_length=129, quiet=True)
    heads = open_prepared(tmp_path / "long").train.heads
    assert heads is not None and heads.dtype == np.int16


def test_the_last_place_of_a_long_sentence_fits(tmp_path: Path) -> None:
    """126 words and two marks: the head of the first word is at 126, near the end of int8."""
    n = 126
    heads = (n - 1, *range(n - 2), -1)
    sentence = Sentence(tuple("a" * n), heads, ("dep",) * (n - 1) + ("root",))
    write_conllu([sentence] * 500, tmp_path / "long.conllu")
    prepare(tmp_path / "corpus", [tmp_path / "long.conllu"], vocab_size=100, quiet=True)
    data = open_prepared(tmp_path / "corpus")
    assert data.train.heads is not None and data.train.heads.dtype == np.int8
    first = data.train.heads[: data.train.starts[1]].tolist()
    assert first == [NO_HEAD, n, *range(1, n - 1), NO_HEAD, NO_HEAD]


def test_a_large_vocabulary_has_wider_pieces(
    files: list[Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    large = PreTrainedTokenizerFast(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(
            tokenizer.backend_tokenizer.to_str()
        ),
        **{
            f"{kind}_token": f"[{kind.upper()}]"
            for kind in ("unk", "pad", "cls", "sep", "mask")
        },
    )
    large.add_tokens([f"extra{n}" for n in range(2**15 - len(large))])
    for extra, dtype in (("", np.int16), ("one_more", np.int32)):
        large.add_tokens([extra] if extra else [])
        out = tmp_path / f"corpus{extra}"
        prepare(out, files[1:], tokenizer=large, quiet=True)
        assert open_prepared(out).train.pieces.dtype == dtype


def test_torch_cuts_batches_out_of_the_mapped_arrays(whole: Path, files: list[Path]) -> None:
    """Without a warning, and the same as out of arrays in memory."""
    ours, theirs = open_prepared(whole), text_data(files, TINY, quiet=True)
    chosen = np.arange(470, 490)  # parsed and plain
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = [
            ResidentCorpus(d.train, d.tokenizer, torch.device("cpu"), 0.15).batch(
                chosen, step_generator(0, 0)
            )
            for d in (ours, theirs)
        ]
    for name in ("input_ids", "heads", "positions", "labels"):
        one, other = (getattr(batch, name) for batch in batches)
        assert one.dtype == torch.int64 and torch.equal(one, other), name


# --- whole or not at all --------------------------------------------------------------


def test_a_folder_that_is_there_is_left_alone(files: list[Path], corpus: Path) -> None:
    before = {p: p.read_bytes() for p in corpus.rglob("*") if p.is_file()}
    with pytest.raises(PreparedError, match=rf"{corpus} is there already; choose another"):
        prepare(corpus, files, quiet=True)
    assert {p: p.read_bytes() for p in corpus.rglob("*") if p.is_file()} == before


def test_an_interruption_leaves_nothing_and_a_kill_nothing_that_counts(
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, part = tmp_path / "corpus", tmp_path / "corpus.part"
    blocks = 0
    write = corpus_files.CorpusWriter._write

    def stop(self: corpus_files.CorpusWriter, block: list[Any]) -> None:
        nonlocal blocks
        if (blocks := blocks + 1) == 4:
            shutil.copytree(
                part, tmp_path / "as it was", ignore=shutil.ignore_patterns(".lock")
            )
            raise KeyboardInterrupt
        write(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(corpus_files.CorpusWriter, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(out, files, **SIZES, quiet=True)
    assert not out.exists() and not part.exists()
    shutil.move(tmp_path / "as it was", part)  # a killed process cannot tidy up
    (part / "train" / "leftover").touch()
    with pytest.raises(PreparedError, match="is no prepared corpus: there is no"):
        open_prepared(part)
    prepare(out, files, **SIZES)
    assert f"preparation of {out} was cut off; starting anew" in capsys.readouterr().err
    assert same_data(open_prepared(out), text_data(files, TINY, quiet=True))
    assert not part.exists() and not list(out.rglob("leftover"))


def test_two_processes_do_not_write_to_one_folder(files: list[Path], tmp_path: Path) -> None:
    out, part = tmp_path / "corpus", tmp_path / "corpus.part"
    part.mkdir()
    (part / "theirs").touch()
    with FileLock(part / ".lock"):
        errors: list[BaseException] = []

        def other() -> None:
            try:
                prepare(out, files, **SIZES, quiet=True)
            except PreparedError as error:
                errors.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert "another process is preparing" in str(errors[0])
        assert (part / "theirs").exists(), "what the other one has written stays"


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("missing", FileNotFoundError, "gone.txt"),
        ("cut", CorpusError, "short.txt.xz: .*is the file complete"),
        ("no text", CorpusError, "short.txt: no sentence of 3 words"),
        ("bytes", CorpusError, "short.txt, line 1: no UTF-8 text"),
        ("treebank", TreebankError, r"short.conllu, line 1, .* 10 columns"),
        ("few", CorpusError, "7 sentences are too few to train on"),
        ("none", CorpusError, "no text to prepare"),
        ("name", DownloadError, r"no text wikitext-103/best; there are"),
        (
            "control",
            PreparedError,
            r"no control 'sharpness' with links; there are random_trees",
        ),
        ("tokenizer", PreparedError, r"cannot load a tokenizer from .*gone"),
        ("place", PreparedError, r"cannot write to .*corpus: .*directory"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_left(
    files: list[Path], tmp_path: Path, texts: list[str], fault: str, error: Any, says: str
) -> None:
    out = tmp_path / "corpus"
    sources: list[Any] = [files[1], tmp_path / "short.txt"]
    more: dict[str, Any] = {}
    if fault == "missing":
        sources[1] = tmp_path / "gone.txt"
    elif fault == "cut":
        sources[1] = tmp_path / "short.txt.xz"
        sources[1].write_bytes(files[1].read_bytes()[:-100])
    elif fault == "no text":
        sources[1].write_text("two words\n")
    elif fault == "bytes":
        sources[1].write_bytes(b"caf\xe9 in a line\n")
    elif fault == "treebank":
        sources[1] = tmp_path / "short.conllu"
        sources[1].write_text("1 dog _\n\n")
    elif fault == "few":
        sources = [sources[1]]
        sources[0].write_text("\n".join(texts[:7]))
    elif fault == "none":
        sources = []
    elif fault == "name":
        sources[1] = "wikitext-103/best"
    elif fault == "control":
        sources, more = files, {"controls": ["sharpness"]}
    elif fault == "tokenizer":
        sources, more = files, {"tokenizer": tmp_path / "gone"}
    else:
        (tmp_path / "file").touch()
        sources, out = files, tmp_path / "file" / "corpus"
    with pytest.raises(error, match=says):
        prepare(out, sources, **SIZES, **more, quiet=True)
    assert not out.exists() and not list(tmp_path.glob("*.part"))


def test_a_full_disk_is_named(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, values: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corpus_files._Growing, "append", full)
    with pytest.raises(PreparedError, match=r"cannot write to .*No space left .*nothing of it"):
        prepare(tmp_path / "corpus", files, **SIZES, quiet=True)
    assert not list(tmp_path.iterdir())


# --- changed or other folders ---------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["train/pieces.npy", "valid/heads.npy", "tokenizer/tokenizer.json"]
)
def test_a_changed_file_is_named(corpus: Path, name: str) -> None:
    path = corpus / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PreparedError, match=rf"{path} has changed: its checksum is not"):
        open_prepared(corpus)
    if name.endswith(".npy"):
        open_prepared(corpus, check=False)  # sizes alone tell nothing here
    path.write_bytes(content[:-1])
    for check in (True, False):
        with pytest.raises(PreparedError, match=rf"{path} has changed: its size, [\d,]+ bytes"):
            open_prepared(corpus, check=check)
    path.unlink()
    with pytest.raises(PreparedError, match=rf"{path} is missing; copy the folder again"):
        open_prepared(corpus, check=False)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (None, r"is no prepared corpus: there is no .*manifest.json; .* sas prepare"),
        ("{", r"manifest.json cannot be read"),
        ("[1]", r"manifest.json is not of the format"),
        ('{"format": "of another day"}', r"manifest.json is not of the format"),
    ],
)
def test_a_folder_that_is_none_is_named(
    tmp_path: Path, manifest: str | None, says: str
) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(PreparedError, match=says):
        open_prepared(tmp_path)


def test_links_that_were_not_made_are_missed(files: list[Path], tmp_path: Path) -> None:
    for name, texts in (("parsed", files[:1]), ("plain", files[1:])):
        prepare(tmp_path / name, texts, **SIZES, controls=["next_word"], quiet=True)
    open_prepared(tmp_path / "parsed", "next_word")
    with pytest.raises(
        PreparedError, match=r"no links for the control 'random_trees'.*--control"
    ):
        open_prepared(tmp_path / "parsed", "random_trees")
    config = dataclasses.replace(RUN, penalty="random_trees")
    with pytest.raises(RunError, match="needs parsed sentences"):
        prepared_run(tmp_path / "run", config, tmp_path / "plain", quiet=True)


# --- other sources --------------------------------------------------------------------


def test_silver_parses_are_read(
    files: list[Path], sentences: list[Sentence], tmp_path: Path
) -> None:
    """A file of parses is the treebank with the same trees."""
    parses = pytest.importorskip("sas_lib.parses")
    path = tmp_path / "text.parses.parquet"
    parses.write_parses(path, lambda start: iter(sentences[start:480]), {"pipeline": "gold"})
    prepare(tmp_path / "corpus", [path, files[1]], **SIZES, quiet=True)
    assert same_data(open_prepared(tmp_path / "corpus"), text_data(files, TINY, quiet=True))


def test_a_text_by_name_is_read(
    files: list[Path], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "wikitext-103-raw"
    raw.mkdir()
    for part, rows in (("train", texts[480:]), ("validation", texts[:5])):
        name = {"validation": "valid"}.get(part, part)
        (raw / f"wiki.{name}.raw").write_text("".join(f" {row} \n" for row in rows))
        monkeypatch.setitem(downloads.ROWS, part, len(rows))
    monkeypatch.setenv("SAS_DATA", str(tmp_path))
    named = ["wikitext-103"], ["wikitext-103/validation"]
    manifest = prepare(tmp_path / "corpus", *named, **SIZES, quiet=True)
    assert (manifest["train"]["sentences"], manifest["valid"]["sentences"]) == (480, 5)
    (facts,) = manifest["inputs"]["valid"]
    assert facts == {
        "name": "wikitext-103/validation", "hub": downloads.HUB, "revision": downloads.REVISION,
    }  # fmt: skip
    data = open_prepared(tmp_path / "corpus")
    plain = text_data([files[1]], TINY, quiet=True)
    words = data.tokenizer.decode(data.train.pieces[: data.train.starts[1]])
    assert words == f"[CLS] {texts[480][:-2]}. [SEP]"
    assert data.tokenizer.get_vocab() == plain.tokenizer.get_vocab()


# --- the command ----------------------------------------------------------------------


def test_sas_prepare_and_train_on_it(
    sas: Sas, files: list[Path], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "corpus"
    command = ["prepare", "--out", out, "--text", files[0], "--text", files[1]]
    sizes = ["--vocab-size", 100, "--max-length", 40]
    result = sas(*command, *sizes, "--control", "next_word", "--json")
    assert result.code == 0, result.err
    manifest = json.loads(result.out)
    assert manifest == prepared.read_prepared(out) and manifest["controls"] == ["next_word"]
    one_line_error(sas(*command), out, "is there already")

    train = ["--corpus", out, "--steps", 2, "--layers", 1, "--width", 16, "--heads", 2,
             "--batch-size", 8, "--log-checkpoints", 0, "--even-checkpoints", 1,
             "--threads", torch.get_num_threads()]  # fmt: skip
    result = sas("pretrain", "--out", tmp_path / "run", *train, "--treebank", files[0])
    assert result.code == 0, result.err
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (saved["vocab_size"], saved["max_length"]) == (100, 40), "those of the folder"
    names = {row["metric"] for row in metrics(tmp_path / "run")}
    assert {"valid_loss", "gold_arc_attention", "uas_best_head"} <= names

    new = ["pretrain", "--out", tmp_path / "new", *train]
    one_line_error(sas(*new, "--max-length", 64), "prepared with the max_length 40", "has 64")
    control = ["--sas-lambda", 1, "--penalty"]
    one_line_error(sas(*new, *control, "random_trees"), "prepare it again with --control")
    both = sas(*new, "--corpus", files[1])
    assert both.code == 2 and "one prepared folder, not both" in " ".join(both.err.split())
    assert not (tmp_path / "new").exists()
    assert sas(*new, *control, "next_word").code == 0


def test_sas_prepare_shows_what_was_made(sas: Sas, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    result = sas("prepare", "--out", out, "--text", files[0], "--valid", files[1])
    assert result.code == 0, result.err
    head, train, valid, size = result.out.splitlines()
    assert head.split() == ["sentences", "parsed", "words", "pieces"]
    assert train.split()[:4] == ["train", "480", "480", "3,360"]
    assert valid.split()[:4] == ["valid", "480", "0", "3,360"]
    assert size.endswith(f"MB in {out}")
    result = sas("prepare", "--out", tmp_path / "none")
    assert result.code == 2 and "--text or --name" in result.err
    one_line_error(
        sas("prepare", "--out", tmp_path / "x", "--text", tmp_path / "no.txt"), "no.txt"
    )


def test_named_data_are_measured_on(
    sas: Sas, files: list[Path], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--treebank ewt and --pairs blimp, of a folder of data."""
    seen: list[Path] = []

    def fetch(name: str, part: str | None = None) -> Path:
        seen.append(Path(name, part or ""))
        raise DownloadError(f"cannot fetch {name}")

    monkeypatch.setattr(downloads, "fetch", fetch)
    monkeypatch.chdir(tmp_path)
    run = ["pretrain", "--out", tmp_path / "run", "--corpus", whole]
    one_line_error(sas(*run, "--treebank", "ewt/test"), "cannot fetch ewt")
    one_line_error(sas(*run, "--treebank", files[0], "--pairs", "blimp"), "cannot fetch blimp")
    assert seen == [Path("ewt/test"), Path("blimp")]
    assert not (tmp_path / "run").exists()
