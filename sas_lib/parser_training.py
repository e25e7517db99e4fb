"""A tagger and a parser trained on a treebank, by spaCy's own training.

For those who have no trained pipeline at hand. The settings are in ``parser_training.cfg``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sas_lib.fingerprints import file_sha256
from sas_lib.parses import spaces
from sas_lib.silver import (
    BATCH,
    SilverError,
    bare_doc,
    check_spacy,
    load,
    to_sentence,
    unsplit,
)
from sas_lib.treebank import Sentence, read_conllu, to_doc

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc
    from spacy.vocab import Vocab

CONFIG = Path(__file__).with_suffix(".cfg")
SCORES, CURVE = "scores.json", "training.jsonl"


# --- training -------------------------------------------------------------------------


def train_parser(
    out: str | os.PathLike[str],
    treebank: str | os.PathLike[str],
    max_steps: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a tagger and a parser on a treebank and write a spaCy pipeline to ``out``.

    The folder ``treebank`` holds CoNLL-U files for train, dev and test, named as Universal
    Dependencies names them. Training stops when dev shows no progress, after ``max_steps``, or
    at Ctrl-C; the best pipeline so far is kept. spaCy does not save its optimiser, so a
    training cannot be gone on with; the best pipeline of one that was killed is in
    OUT.part/model-best, until the next one starts.

    Returns:
        What is written to OUT/scores.json: UAS and LAS on dev and test (see
        :func:`evaluate`), the steps, the seed, and what it was trained on. The scores of dev
        along the way are in OUT/training.jsonl.

    Raises:
        SilverError: spaCy is missing, ``out`` is there, or the folder lacks a file.
        TreebankError: a file of the treebank is malformed.
    """
    check_spacy()
    out = Path(out)
    if out.exists():
        raise SilverError(f"{out} is there already; give another --out, or remove it")
    files = {name: treebank_file(treebank, name) for name in ("train", "dev", "test")}
    banks = {name: _read(file) for name, file in files.items()}
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    start = time.monotonic()
    for name in ("train", "dev"):
        _write_docs(banks[name], part / f"{name}.spacy")
    finished = _fit(part, max_steps, seed)
    nlp = load(part / "model-best")
    curve = [json.loads(line) for line in (part / CURVE).read_text().splitlines()]
    scores = {
        "dev": evaluate(nlp, banks["dev"]),
        "test": evaluate(nlp, banks["test"]),
        "best_step": max(curve, key=lambda row: row["score"])["step"],
        "last_step": curve[-1]["step"],
        "interrupted": not finished,
        "seed": seed,
        "treebank": {file.name: file_sha256(file) for file in files.values()},
        "spacy": version("spacy"),
        "seconds": round(time.monotonic() - start),
    }
    _save(nlp, scores, part, out)
    return scores


def treebank_file(folder: str | os.PathLike[str], name: str) -> Path:
    """The file for train, dev or test in a folder laid out as UD does: ...-ud-NAME.conllu.

    Raises:
        SilverError: there is none, or more than one.
    """
    found = sorted(Path(folder).glob(f"*{name}.conllu")) or sorted(
        Path(folder).glob(f"*{name}.conllu.xz")
    )
    if len(found) != 1:
        raise SilverError(
            f"{folder} has {len(found)} files *{name}.conllu, where one is needed; give a "
            "treebank of Universal Dependencies, such as UD_English-EWT, with --treebank"
        )
    return found[0]


def _read(file: Path) -> list[Sentence]:
    return list(tqdm(read_conllu(file), desc=file.name, unit=" sentences"))


def _write_docs(sentences: Iterable[Sentence], to: Path) -> None:
    """A treebank in spaCy's own format."""
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    vocab = Vocab()
    DocBin(docs=[training_doc(sentence, vocab) for sentence in sentences]).to_disk(to)


def training_doc(sentence: Sentence, vocab: Vocab) -> Doc:
    """A gold tree as a Doc that knows its text, so that spaCy can cut it into its own words."""
    from spacy.tokens import Doc

    doc = to_doc(sentence, vocab)
    after = spaces(sentence)
    if after is None:
        return doc
    return Doc(
        vocab,
        words=list(sentence.words),
        spaces=after,
        heads=[token.head.i for token in doc],
        deps=[token.dep_ for token in doc],
        pos=[token.pos_ for token in doc],
    )


def _fit(part: Path, max_steps: int | None, seed: int) -> bool:
    """Train on the files in ``part``, leave model-best there; returns whether to the end."""
    from spacy import util
    from spacy.training.initialize import init_nlp
    from spacy.training.loop import train

    config = util.load_config(CONFIG)
    training = config["training"]
    training["seed"] = seed
    training["max_steps"] = max_steps or training["max_steps"]
    training["eval_frequency"] = min(training["eval_frequency"], training["max_steps"])
    training["logger"]["output_file"] = str(part / CURVE)
    config["paths"].update((name, str(part / f"{name}.spacy")) for name in ("train", "dev"))
    print("collecting the labels, then training", file=sys.stderr)
    try:
        nlp = init_nlp(util.load_model_from_config(config, auto_fill=True).config)
        train(nlp, part, stdout=sys.stderr, stderr=sys.stderr)
    except KeyboardInterrupt:
        if not (part / CURVE).exists() or not (part / CURVE).stat().st_size:
            shutil.rmtree(part)  # there is no parser yet
            raise
        return False
    return True


def _save(nlp: Language, scores: dict[str, Any], part: Path, out: Path) -> None:
    """Write the pipeline and its scores to ``out``, whole or not at all."""
    nlp.meta["name"] = out.name
    nlp.meta["version"] = version("sas-lib")
    nlp.meta["description"] = "A tagger and a parser, trained by sas train-parser"
    nlp.meta["performance"]["sas_lib"] = scores
    # These name files that are about to go.
    nlp.config["paths"].update(train=None, dev=None)
    nlp.config["training"]["logger"]["output_file"] = None
    whole = part / "whole"
    nlp.to_disk(whole)
    (whole / SCORES).write_text(json.dumps(scores, indent=1), encoding="utf-8")
    (part / CURVE).replace(whole / CURVE)
    whole.replace(out)
    shutil.rmtree(part)


# --- scores ---------------------------------------------------------------------------


def attachment_scores(
    gold: Iterable[Sentence], predicted: Iterable[Sentence], punct: bool
) -> dict[str, float | int]:
    """How many words hang where they should, for parses over the same words.

    A word is attached right when its head is, and a root when it is predicted to be one;
    this is UAS. LAS asks for the relation too, subtype included.

    Args:
        punct: count words that are gold punctuation, as the CoNLL 2018 shared task did.

    Returns:
        ``words`` counted, and ``uas`` and ``las``, shares of them.

    Raises:
        ValueError: the words differ, or none is left to count.
    """
    words = heads = relations = 0
    for right, guess in zip(gold, predicted, strict=True):
        if right.words != guess.words:
            raise ValueError(f"these words differ: {right.words} and {guess.words}")
        for i, relation in enumerate(right.relations):
            if punct or relation.partition(":")[0] != "punct":
                words += 1
                heads += right.heads[i] == guess.heads[i]
                relations += (right.heads[i], relation) == (guess.heads[i], guess.relations[i])
    if not words:
        raise ValueError("no word to score")
    return {"words": words, "uas": heads / words, "las": relations / words}


def raw_text_scores(
    gold: Iterable[Sentence], predicted: Iterable[Sentence]
) -> dict[str, float]:
    """The same for parses over words of their own, as F1 (Zeman et al. 2018, K18-2001).

    A word is right when it spans the same characters of its sentence, and so does its head.
    Punctuation counts. Returns ``tokens``, ``uas`` and ``las``.
    """
    rights = [0, 0, 0]
    total = 0
    for right, guess in zip(gold, predicted, strict=True):
        ours, theirs = _spans(right), _spans(guess)
        total += len(ours) + len(theirs)
        for n in range(3):
            rights[n] += len({arc[: n + 1] for arc in ours} & {arc[: n + 1] for arc in theirs})
    return dict(
        zip(("tokens", "uas", "las"), (2 * right / total for right in rights), strict=True)
    )


def _spans(sentence: Sentence) -> list[tuple[Any, ...]]:
    """(span, span of the head, relation) of each word, in characters that are not space."""
    lengths = (len("".join(word.split())) for word in sentence.words)
    spans = list(pairwise(accumulate(lengths, initial=0)))
    return [
        (span, spans[head] if head >= 0 else None, relation)
        for span, head, relation in zip(spans, sentence.heads, sentence.relations, strict=True)
    ]


def evaluate(nlp: Language, sentences: list[Sentence]) -> dict[str, Any]:
    """A pipeline against gold trees.

    Returns:
        Over the gold words :func:`attachment_scores` ``without_punct`` and ``with_punct`` and
        the accuracy of ``upos`` (None where the gold has none); with words cut by the
        pipeline's own rules :func:`raw_text_scores` as ``raw_text``.
    """
    from spacy.tokens import Doc

    gold_words = (unsplit(Doc(nlp.vocab, words=list(s.words))) for s in sentences)
    parsed = [to_sentence(doc) for doc in nlp.pipe(gold_words, batch_size=BATCH)]
    texts = (bare_doc(nlp, s.text or " ".join(s.words)) for s in sentences)
    raw = [to_sentence(doc) for doc in nlp.pipe(texts, batch_size=BATCH)]
    tags = [
        pair
        for gold, guess in zip(sentences, parsed, strict=True)
        for pair in zip(gold.upos, guess.upos, strict=False)
    ]
    return {
        "without_punct": attachment_scores(sentences, parsed, punct=False),
        "with_punct": attachment_scores(sentences, parsed, punct=True),
        "upos": sum(a == b for a, b in tags) / len(tags) if tags else None,
        "raw_text": raw_text_scores(sentences, raw),
    }
