"""A prepared corpus: text that is read and cut into pieces once, and opened at once.

A prepared folder holds ``tokenizer/``, memory-mapped arrays for ``train/`` and ``valid/``
(``pieces``, ``starts`` and, of parsed text, ``heads``, as in ``corpus.EncodedCorpus``) and
``manifest.json``, which says what they were made of and has their checksums. Memory does not
grow with the corpus, beyond the sample of 500,000 sentences that a tokenizer is trained on.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from sas_lib import downloads
from sas_lib.corpus import train_tokenizer
from sas_lib.corpus_files import CorpusWriter, open_corpus
from sas_lib.fingerprints import file_sha256
from sas_lib.locks import LOCK, held
from sas_lib.pretraining import Data, Measure, check_start, finished, pretrain
from sas_lib.regularizer import RELINK
from sas_lib.run_state import write_whole
from sas_lib.runs import Text, text_of
from sas_lib.settings import Config
from sas_lib.text import CorpusError, read_text
from sas_lib.treebank import read_conllu

FORMAT, MANIFEST = "sas prepared corpus 1", "manifest.json"
# Without files for validation every so many sentences one is kept back, or more rarely where
# that would be too many: an even share of all the texts.
HELD_EVERY, HELD_MOST = 400, 1000
SAMPLE = 500_000  # sentences at most that a tokenizer is trained on

Source = str | os.PathLike[str]


class PreparedError(ValueError):
    """A folder that is no whole prepared corpus, or not one for this run."""


# --- reading --------------------------------------------------------------------------


def read_sentences(source: Source) -> Iterator[Text]:
    """The sentences of a file or a named text, parsed where they have a parse.

    source: ``.conllu``, silver parses (``.parses.parquet``), else plain text, one paragraph
    a line; ``.xz`` may be; or a name that ``downloads.text`` knows.
    """
    if downloads.is_text(source):
        name, _, part = Path(source).as_posix().partition("/")
        return downloads.text(name, part or "train")
    suffixes = Path(source).suffixes
    if suffixes[-2:] == [".parses", ".parquet"]:
        from sas_lib.parses import read_parses

        parses: Iterator[Text] = read_parses(source)
        return parses
    return read_conllu(source) if ".conllu" in suffixes else read_text(source)


def _read(sources: Iterable[Source]) -> Iterator[Text]:
    return itertools.chain.from_iterable(map(read_sentences, sources))


def _spread(texts: Iterable[str], most: int) -> list[str]:
    """All of the texts or, of more than ``most``, every second, every fourth, ..."""
    kept: list[str] = []
    stride = 1
    for number, text in enumerate(texts):
        if number % stride == 0:
            kept.append(text)
            if len(kept) > most:
                kept, stride = kept[::2], 2 * stride
    return kept


def _keep_back(
    sentences: Iterable[Text], total: int | None, held: list[Text]
) -> Iterator[Text]:
    """The sentences but those for validation, which are put into ``held``."""
    every = max(HELD_EVERY, math.ceil((total or 0) / HELD_MOST))
    for number, sentence in enumerate(sentences):
        if number % every == 0:
            held.append(sentence)
        else:
            yield sentence


# --- writing --------------------------------------------------------------------------


def prepare(
    out: Source,
    texts: Sequence[Source],
    valid: Sequence[Source] | None = None,
    vocab_size: int = 8192,
    max_length: int = 128,
    tokenizer: PreTrainedTokenizerFast | Source | None = None,
    controls: Sequence[str] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Prepare texts (see ``read_sentences``) in the folder ``out``; returns its manifest.

    valid: texts for validation; else every 400th sentence, or of more than 400,000 sentences
    an even 1,000, is kept back.
    tokenizer: one that is there already, or its folder; else one is trained, on all sentences
    or on an even sample of at least 250,000. controls: kinds of ``regularizer.RELINK`` whose
    links are made as well, of the parsed sentences, for runs with that penalty.
    The folder appears under its name when it is complete. An interrupted preparation leaves
    nothing that counts; it starts anew.

    Raises:
        FileNotFoundError, CorpusError, TreebankError, DownloadError: of the texts.
        PreparedError: ``out`` is there already, or cannot be written to; no such control.
    """
    out = Path(out)
    if out.exists():
        raise PreparedError(f"{out} is there already; choose another folder, or remove it")
    if not texts:
        raise CorpusError("no text to prepare")
    if unknown := sorted(set(controls) - set(RELINK)):
        raise PreparedError(
            f"no control {unknown[0]!r} with links; there are {', '.join(RELINK)}"
        )
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "settings": {"vocab_size": vocab_size, "max_length": max_length},
        "controls": sorted(set(controls)),
        "inputs": {"train": list(map(_input, texts)), "valid": list(map(_input, valid or []))},
        "tokenizers": version("tokenizers"),
    }
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = _load_tokenizer(tokenizer)
    with _making(out, quiet) as part:
        total = None
        if tokenizer is None or not valid:  # else one reading is enough
            sample, total = _sampled(texts, quiet)
        if tokenizer is None:
            if not quiet:
                print(f"training a tokenizer on {len(sample):,} sentences", file=sys.stderr)
            tokenizer = train_tokenizer(sample, vocab_size)
        else:
            manifest["settings"]["vocab_size"] = len(tokenizer)
        tokenizer.save_pretrained(part / "tokenizer")
        sentences = tqdm(_read(texts), "encoding", total, unit=" sentences", disable=quiet)
        train = CorpusWriter(part / "train", tokenizer, max_length, manifest["controls"])
        held = CorpusWriter(part / "valid", tokenizer, max_length)
        _write(sentences, total, valid, train, held)
        manifest |= {"train": train.counts(), "valid": held.counts(), "files": _files(part)}
        write_whole(part / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest


def _sampled(texts: Sequence[Source], quiet: bool) -> tuple[list[str], int]:
    """An even sample of the sentences, and how many there are."""
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for sentence in tqdm(_read(texts), "reading", unit=" sentences", disable=quiet):
            count += 1
            yield text_of(sentence)

    return _spread(counted(), SAMPLE), count


def _load_tokenizer(folder: Source) -> PreTrainedTokenizerFast:
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # tokenizers has no errors of its own
        raise PreparedError(f"cannot load a tokenizer from {folder}: {error}") from error
    if None in (tokenizer.cls_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id):
        raise PreparedError(
            f"the tokenizer in {folder} lacks [CLS], [PAD] or [MASK], as BERT's"
        )
    return tokenizer


def _write(
    sentences: Iterable[Text],
    total: int | None,
    valid: Sequence[Source] | None,
    train: CorpusWriter,
    held: CorpusWriter,
) -> None:
    """Write the sentences, some of them for validation unless there are files for it."""
    kept: list[Text] = []
    train.write(sentences if valid else _keep_back(sentences, total, kept))
    if not train.sentences or (len(kept) < 2 and not valid):
        raise CorpusError(f"{train.sentences + len(kept)} sentences are too few to train on")
    held.write(_read(valid) if valid else kept)


def _input(source: Source) -> dict[str, Any]:
    """What a text is, for the manifest; the folder it is in is nobody's business."""
    if downloads.is_text(source):
        return {"name": str(source), "hub": downloads.HUB, "revision": downloads.REVISION}
    return {"name": Path(source).name, **_facts(Path(source))}


def _files(folder: Path) -> dict[str, Any]:
    """Checksum and size of each file."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {p.relative_to(folder).as_posix(): _facts(p) for p in paths if p.name != LOCK}


def _facts(path: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


@contextmanager
def _making(out: Path, quiet: bool) -> Iterator[Path]:
    """A folder to write to, which gets the name ``out`` in the end or is removed."""
    part = out.with_name(out.name + ".part")
    busy = PreparedError(f"another process is preparing {out}; wait for it, or stop it")
    try:
        with held(part, busy):
            try:
                _clear(part, out, quiet)
                yield part
                (part / LOCK).unlink(missing_ok=True)
                part.replace(out)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise PreparedError(
            f"cannot write to {out}: {error}; nothing of it was kept"
        ) from error


def _clear(part: Path, out: Path, quiet: bool) -> None:
    """Remove what an earlier preparation left."""
    left = [path for path in part.iterdir() if path.name != LOCK]
    if left and not quiet:
        print(f"an earlier preparation of {out} was cut off; starting anew", file=sys.stderr)
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- opening --------------------------------------------------------------------------


def read_prepared(folder: Source) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        PreparedError: there is none, or it is not one that this version reads.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PreparedError(
            f"{folder} is no prepared corpus: there is no {path}; make one with sas prepare"
        ) from error
    except (OSError, ValueError) as error:
        raise PreparedError(
            f"{path} cannot be read ({error}); prepare the corpus anew"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise PreparedError(f"{path} is not of the format {FORMAT!r}; prepare the corpus anew")
    return manifest


def open_prepared(folder: Source, penalty: str = "sas", check: bool = True) -> Data:
    """The data of a prepared folder, mapped into memory.

    penalty: the kind of a run, whose links the training sentences get; validation keeps the
    gold ones. check: compare all checksums, which reads everything once (below a second for
    500 MB); else sizes alone.

    Raises:
        PreparedError: it is no prepared folder, was changed, or has no links for ``penalty``.
    """
    folder = Path(folder)
    manifest = read_prepared(folder)
    _compare(folder, manifest["files"], check)
    parsed = manifest["train"]["parsed"]
    if parsed and penalty in RELINK and penalty not in manifest["controls"]:
        raise PreparedError(
            f"{folder} has no links for the control {penalty!r}, which are made with the "
            f"corpus; prepare it again with --control {penalty}"
        )
    tokenizer = _load_tokenizer(folder / "tokenizer")
    return Data(
        tokenizer, open_corpus(folder / "train", penalty), open_corpus(folder / "valid")
    )


def _compare(folder: Path, files: Mapping[str, Mapping[str, Any]], check: bool) -> None:
    for name, facts in files.items():
        path = folder / name
        if not path.is_file():
            raise PreparedError(f"{path} is missing; copy the folder again, or prepare it anew")
        same = path.stat().st_size == facts["bytes"]
        if not same or (check and _facts(path) != dict(facts)):
            what = "its checksum" if same else f"its size, {facts['bytes']:,} bytes,"
            raise PreparedError(
                f"{path} has changed: {what} is not that of the manifest; copy the folder "
                "again, or prepare it anew"
            )


def prepared_run(
    out: Source,
    config: Config,
    corpus: Source,
    measures: Sequence[Measure] = (),
    resume: bool = False,
    device: str = "cpu",
    quiet: bool = False,
    stop_at: int | None = None,
    keep: int | None = None,
) -> Path:
    """Train on a prepared corpus; as ``runs.text_run``, which does it on files.

    Raises:
        PreparedError: the corpus cannot be opened, or has another vocabulary or length.
        RunError: as ``pretraining.pretrain``.
    """
    check_start(out, resume, device)
    if metrics := finished(out, config):
        return metrics
    data = data_for(corpus, config)
    return pretrain(out, config, data, list(measures), resume, device, quiet, stop_at, keep)


def data_for(corpus: Source, config: Config) -> Data:
    """The data of a prepared folder, for runs with this configuration.

    Raises:
        PreparedError: the corpus cannot be opened, or has another vocabulary or length.
    """
    for name, value in read_prepared(corpus)["settings"].items():
        if value != getattr(config, name):
            raise PreparedError(
                f"{corpus} was prepared with the {name} {value}, and the run has "
                f"{getattr(config, name)}; use the same, or prepare the corpus anew"
            )
    return open_prepared(corpus, config.penalty)
