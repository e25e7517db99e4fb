"""Silver parses and the parser that makes them, on toy English and on parses made by hand."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import spacy
from conftest import Sas, one_line_error
from spacy.language import Language
from spacy.scorer import Scorer
from spacy.tokens import Doc, Token
from spacy.training import Example, loop

from sas_lib import parser_training, silver, toy_english
from sas_lib.parser_training import (
    attachment_scores,
    evaluate,
    raw_text_scores,
    train_parser,
    training_doc,
    treebank_file,
)
from sas_lib.parses import parses_metadata, parts_folder, read_parses
from sas_lib.silver import SilverError, load, parse, parse_file, to_sentence, unsplit
from sas_lib.treebank import ROOT, Sentence, read_conllu, to_doc, tree_problem, write_conllu

TOY = list(toy_english.sentences(420, seed=3))
TRAIN, DEV, TEST = TOY[:300], TOY[300:340], TOY[340:]


@pytest.fixture(scope="module")
def treebank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("UD_Toy")
    for name, sentences in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        write_conllu(sentences, folder / f"en_toy-ud-{name}.conllu")
    return folder


@pytest.fixture(scope="module")
def trained(
    treebank: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A parser of toy English, trained for some seconds, and its scores."""
    out = tmp_path_factory.mktemp("parsers") / "toy"
    return out, train_parser(out, treebank, max_steps=100)


@pytest.fixture(scope="module")
def toy_parser(trained: tuple[Path, dict[str, Any]]) -> Path:
    return trained[0]


@Language.component("chain_for_tests")
def chain(doc: Doc) -> Doc:
    """Hang each word on the next one; a full stop and the last word have no head."""
    heads = [i if t.text == "." or i + 1 == len(doc) else i + 1 for i, t in enumerate(doc)]
    return Doc(
        doc.vocab,
        words=[token.text for token in doc],
        spaces=[bool(token.whitespace_) for token in doc],
        heads=heads,
        deps=["ROOT" if i == head else f"to:{i}" for i, head in enumerate(heads)],
    )


@pytest.fixture(scope="module")
def chain_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of rules, with a known answer; it splits sentences, which we do not want."""
    folder = tmp_path_factory.mktemp("chain")
    nlp = spacy.blank("en")
    nlp.add_pipe("chain_for_tests")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(folder)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """The longer of the test sentences, a paragraph each."""
    path = tmp_path / "toy.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


LINES = [sentence.text for sentence in TEST if sentence.text.count(" ") > 1]


# --- from spaCy ---------------------------------------------------------------------------


def test_a_sentence_with_several_roots_stays_one(chain_pipeline: Path) -> None:
    """What spaCy takes for two sentences is one to us; both roots stay roots."""
    (sentence,) = parse(["Stop. Go on now"], chain_pipeline)
    assert sentence == Sentence(
        words=("Stop", ".", "Go", "on", "now"),
        heads=(1, ROOT, 3, 4, ROOT),
        relations=("to:0", "root", "to:2", "to:3", "root"),
        upos=("_",) * 5,
    )


def test_a_parser_that_splits_is_kept_from_it(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("parser")
    pairs = [Doc.from_docs([to_doc(s, nlp.vocab) for s in TRAIN[i : i + 2]]) for i in range(99)]
    examples = [Example(nlp.make_doc(pair.text), pair) for pair in pairs]
    nlp.initialize(lambda: examples)
    for start in range(0, 99, 33):
        nlp.update(examples[start : start + 33])
    nlp.to_disk(tmp_path)
    texts = [pair.text for pair in pairs[:20]]
    assert any(len(list(doc.sents)) > 1 for doc in nlp.pipe(texts)), "left alone, it splits"
    parsed = list(parse(texts, tmp_path))
    assert [s.words for s in parsed] == [tuple(t.text for t in pair) for pair in pairs[:20]]
    assert all(tree_problem(s.heads) is None for s in parsed)


def test_white_space_is_no_word(chain_pipeline: Path) -> None:
    odd = "\ta\u00a0b  c\n\nd\u2003\u2003e "
    assert any(token.is_space for token in spacy.blank("en")(odd)), "spaCy keeps it"
    (sentence,) = parse([odd], chain_pipeline)
    assert sentence.words == ("a", "b", "c", "d", "e")
    assert sentence.heads == (1, 2, 3, 4, ROOT)
    assert sentence.text == "a b c d e"
    assert silver.bare_doc(spacy.blank("en"), odd).text == "a b c d e", "nor a parser's to see"


def test_what_hangs_on_white_space_hangs_on_its_head() -> None:
    doc = Doc(
        spacy.blank("en").vocab,
        words=["a", " ", "b", "\n", "c", "d"],
        heads=[1, 2, 2, 3, 3, 4],  # a on a space on b; c on a line break that is a root
        deps=["x", "dep", "ROOT", "ROOT", "y", "z"],
    )
    sentence = to_sentence(doc)
    assert sentence.words == ("a", "b", "c", "d")
    assert sentence.heads == (1, ROOT, ROOT, 2)
    assert sentence.relations == ("x", "root", "root", "z")
    assert sentence.text == "a b c d"


def test_gold_trees_come_back_as_they_were() -> None:
    vocab = spacy.blank("en").vocab
    for gold in TOY[:50]:
        for doc in (to_doc(gold, vocab), training_doc(gold, vocab)):
            back = to_sentence(doc)
            assert (back.words, back.heads) == (gold.words, gold.heads)
            assert (back.relations, back.upos) == (gold.relations, gold.upos)
    bare = Sentence(("It", "'s"), (1, ROOT), ("x", "root"), text="It's")
    assert training_doc(bare, vocab).text == "It's"
    assert to_sentence(training_doc(bare, vocab)) == replace(bare, upos=("_", "_"))


def test_a_doc_without_a_parse_is_refused() -> None:
    with pytest.raises(ValueError, match="no dependency parse"):
        to_sentence(spacy.blank("en")("a b"))


# --- pipelines that are not there ---------------------------------------------------------


def test_a_missing_pipeline_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SilverError) as error:
        load("en_no_such_pipeline")
    message = str(error.value)
    assert "no spaCy pipeline en_no_such_pipeline" in message and "\n" not in message
    assert "python -m spacy download en_core_web_sm" in message
    assert "sas train-parser --out DIR" in message
    (tmp_path / "config.cfg").write_text('[nlp]\nlang = "${paths.none}"\n')
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(SilverError, match="is no whole spaCy pipeline") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_pipeline_without_a_parser_is_refused(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("merge_entities")
    nlp.to_disk(tmp_path)
    with pytest.raises(SilverError, match=r"no parser, but merge_entities; or train a parser"):
        next(parse(["a b c"], tmp_path))


def test_without_spacy_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, treebank: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    for call in (lambda: load("x"), lambda: train_parser(tmp_path / "x", treebank)):
        with pytest.raises(SilverError, match=r"pip install 'sas-lib\[spacy\]'"):
            call()


# --- parsing a text -----------------------------------------------------------------------


def test_toy_english_end_to_end(toy_parser: Path, text: Path, tmp_path: Path) -> None:
    """Sentences never seen, from text to trees on disk, against their gold trees."""
    out = tmp_path / "toy.parses.parquet"
    figures = parse_file(text, out, toy_parser)
    gold = [sentence for sentence in TEST if sentence.text in LINES]
    silver_trees = list(read_parses(out))
    assert [s.text for s in silver_trees] == LINES
    next_word = [Sentence(s.words, (*range(1, len(s)), ROOT), s.relations) for s in gold]
    uas = attachment_scores(gold, silver_trees, punct=False)["uas"]
    assert uas > attachment_scores(gold, next_word, punct=False)["uas"] + 0.2
    assert uas > 0.6
    assert figures["sentences"] == len(LINES) == len(silver_trees)
    assert figures["words"] == sum(len(line.split()) for line in LINES)
    assert figures["words_per_second"] > 0
    metadata = parses_metadata(out)
    assert metadata.items() <= {**figures, "part_size": 10_000}.items()
    assert (metadata["pipeline"], metadata["text"]) == ("en_toy", "toy.txt")


def test_the_same_parses_from_any_number_of_processes(
    toy_parser: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silver, "BATCH", 7)  # or all would go to one process
    serial = list(parse(LINES, toy_parser))
    assert list(parse(LINES, toy_parser, processes=2)) == serial
    assert [s.text for s in serial] == LINES


def test_a_pipeline_trained_anew_in_its_place_is_seen(
    toy_parser: Path, chain_pipeline: Path, tmp_path: Path
) -> None:
    place = tmp_path / "pipeline"
    place.symlink_to(toy_parser)
    (first,) = parse(["the king sees a tree"], place)
    place.unlink()
    place.symlink_to(chain_pipeline)
    (second,) = parse(["the king sees a tree"], place)
    assert second.heads == (1, 2, 3, 4, ROOT) != first.heads


def interrupt_after(n: int) -> Callable[[Doc], Sentence]:
    count = itertools.count()

    def interrupted(doc: Doc) -> Sentence:
        if next(count) == n:
            raise KeyboardInterrupt
        return to_sentence(doc)

    return interrupted


def test_stopped_it_goes_on_and_gives_the_same_file(
    chain_pipeline: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silver, "BATCH", 4)
    whole, out = tmp_path / "whole.parquet", tmp_path / "x.parquet"
    parse_file(text, whole, chain_pipeline, part_size=8)
    with monkeypatch.context() as patch:
        patch.setattr(silver, "to_sentence", interrupt_after(30))
        with pytest.raises(KeyboardInterrupt):
            parse_file(text, out, chain_pipeline, part_size=8)
    assert len(list(parts_folder(out).glob("part-*"))) == 3 and not out.exists()
    parse_file(text, out, chain_pipeline, part_size=8)
    assert out.read_bytes() == whole.read_bytes()
    assert parse_file(text, out, chain_pipeline, part_size=8)["words_per_second"] is None


def test_stopped_at_the_very_end_nothing_is_parsed_again(
    chain_pipeline: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(pq, "read_table", interrupt_after(0))
        with pytest.raises(KeyboardInterrupt):
            parse_file(text, out, chain_pipeline, part_size=8)
    figures = parse_file(text, out, chain_pipeline, part_size=8)
    assert figures["words_per_second"] is None
    assert [s.text for s in read_parses(out)] == LINES


def test_parses_of_another_text_are_not_gone_on_with(
    chain_pipeline: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.parquet"
    parse_file(text, out, chain_pipeline)
    text.write_text("Quite another text here.")
    with pytest.raises(ValueError, match="made with another text_sha256; remove it"):
        parse_file(text, out, chain_pipeline)


def test_a_limit(chain_pipeline: Path, text: Path, tmp_path: Path) -> None:
    figures = parse_file(text, tmp_path / "x.parquet", chain_pipeline, limit=5)
    assert figures["sentences"] == 5
    assert [s.text for s in read_parses(tmp_path / "x.parquet")] == LINES[:5]


def test_a_sentence_too_long_is_named_before_anything_is_parsed(
    chain_pipeline: Path, text: Path, tmp_path: Path
) -> None:
    text.write_text("Short ones come first.\n" + "word " * 7000)
    with pytest.raises(SilverError, match=r"toy\.txt, sentence 2 has 34999 characters; 32767"):
        parse_file(text, tmp_path / "x.parquet", chain_pipeline)
    assert not parts_folder(tmp_path / "x.parquet").exists()


# --- scores -------------------------------------------------------------------------------

GOLD = Sentence(("a", "b", "c", "."), (1, ROOT, 1, 1), ("det", "root", "obl:tmod", "punct"))
GUESS = Sentence(("a", "b", "c", "."), (1, ROOT, 1, 0), ("amod", "root", "obl", "punct"))


def test_attachment_worked_by_hand() -> None:
    # a: the wrong relation. b: right. c: the wrong subtype. The full stop: the wrong head.
    assert attachment_scores([GOLD], [GUESS], punct=False) == {
        "words": 3,
        "uas": 1,
        "las": 1 / 3,
    }
    assert attachment_scores([GOLD], [GUESS], punct=True) == {
        "words": 4,
        "uas": 3 / 4,
        "las": 1 / 4,
    }
    two_roots = Sentence(GOLD.words, (1, ROOT, ROOT, 1), GOLD.relations)
    assert attachment_scores([GOLD], [two_roots], punct=False)["uas"] == 2 / 3
    both = attachment_scores([GOLD, GOLD], [GUESS, two_roots], punct=True)
    assert both == {"words": 8, "uas": 6 / 8, "las": 4 / 8}
    with pytest.raises(ValueError, match="words differ"):
        attachment_scores([GOLD], [Sentence(("b",), (ROOT,), ("root",))], punct=True)
    with pytest.raises(ValueError, match="no word to score"):
        attachment_scores([], [], punct=True)


def test_raw_text_worked_by_hand() -> None:
    gold = Sentence(
        ("It", "'s", "late", "."), (2, 2, ROOT, 2), ("nsubj", "cop", "root", "punct")
    )
    guess = Sentence(("It's", "late", "."), (1, ROOT, 1), ("nsubj", "root", "dep"))
    # 4 words and 3: late and the full stop are found, both attached right, one labelled so.
    assert raw_text_scores([gold], [guess]) == {"tokens": 4 / 7, "uas": 4 / 7, "las": 2 / 7}
    # The full stop on a word that the gold does not have.
    guess = Sentence(guess.words, (1, ROOT, 0), ("nsubj", "root", "punct"))
    assert raw_text_scores([gold], [guess]) == {"tokens": 4 / 7, "uas": 2 / 7, "las": 2 / 7}
    # A root is not a word that hangs on the last one.
    guess = Sentence(guess.words, (1, 2, ROOT), ("nsubj", "root", "punct"))
    assert raw_text_scores([gold], [guess]) == {"tokens": 4 / 7, "uas": 0, "las": 0}
    assert set(raw_text_scores([gold], [gold]).values()) == {1}


def test_spacy_scores_alike(toy_parser: Path) -> None:
    nlp = load(toy_parser)
    docs = [nlp(unsplit(Doc(nlp.vocab, words=list(s.words)))) for s in TEST]
    pairs = [Example(d, to_doc(s, nlp.vocab)) for d, s in zip(docs, TEST, strict=True)]
    theirs = Scorer.score_deps(pairs, "dep", getter=label, head_attr="head")
    ours = evaluate(nlp, TEST)
    assert ours["with_punct"]["uas"] == pytest.approx(theirs["dep_uas"])
    assert ours["with_punct"]["las"] == pytest.approx(theirs["dep_las"])
    assert ours["with_punct"]["las"] < ours["with_punct"]["uas"] < 1
    assert ours["upos"] == pytest.approx(Scorer.score_token_attr(pairs, "pos")["pos_acc"])
    # Toy English is cut into the same words by spaCy's rules.
    assert ours["raw_text"]["tokens"] == 1
    assert ours["raw_text"]["uas"] == pytest.approx(ours["with_punct"]["uas"])


def label(token: Token, attr: str) -> str:
    return token.dep_


# --- training -----------------------------------------------------------------------------


def test_what_training_leaves(trained: tuple[Path, dict[str, Any]], treebank: Path) -> None:
    out, scores = trained
    assert json.loads((out / "scores.json").read_text()) == scores
    meta = json.loads((out / "meta.json").read_text())
    assert meta["name"] == "toy"
    in_meta = meta["performance"]["sas_lib"]["test"]["without_punct"]  # spaCy rounds
    assert in_meta == pytest.approx(scores["test"]["without_punct"])
    assert scores["dev"] == evaluate(
        load(out), list(read_conllu(treebank_file(treebank, "dev")))
    )
    assert scores["test"] == evaluate(load(out), TEST)
    curve = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == [0, 100]
    assert (scores["best_step"], scores["last_step"], scores["interrupted"]) == (
        100,
        100,
        False,
    )
    assert sorted(scores["treebank"]) == sorted(p.name for p in treebank.iterdir())
    assert [p.name for p in out.parent.iterdir()] == ["toy"]
    for name in ("config.cfg", "meta.json"):
        assert str(out.parent) not in (out / name).read_text()


def test_the_same_seed_trains_the_same_parser(treebank: Path, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> bytes:
        train_parser(tmp_path / name, treebank, max_steps=2, seed=seed)
        return (tmp_path / name / "parser" / "model").read_bytes()

    first = weights("a", 1)
    assert weights("b", 1) == first
    assert weights("c", 2) != first


def test_ctrl_c_keeps_the_best_so_far(
    treebank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.train

    def pressed_late(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise KeyboardInterrupt

    def pressed_early(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    (tmp_path / "late.part").mkdir()  # what one that was killed has left
    (tmp_path / "late.part" / "training.jsonl").write_text("{}")
    monkeypatch.setattr(loop, "train", pressed_late)
    scores = train_parser(tmp_path / "late", treebank, max_steps=1)
    assert scores["interrupted"] and scores["last_step"] == 1
    assert len(list(parse(LINES[:3], tmp_path / "late"))) == 3
    monkeypatch.setattr(loop, "train", pressed_early)
    with pytest.raises(KeyboardInterrupt):
        train_parser(tmp_path / "early", treebank, max_steps=1)
    assert [p.name for p in tmp_path.iterdir()] == ["late"]


def test_nothing_is_trained_where_something_is_missing(
    treebank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser_training, "_fit", None)
    bank, out = tmp_path / "bank", tmp_path / "out"
    with pytest.raises(SilverError, match=r"bank has 0 files \*train\.conllu"):
        train_parser(out, bank)
    bank.mkdir()
    for path in treebank.iterdir():
        (bank / path.name).write_bytes(path.read_bytes())
    (bank / "other-train.conllu").write_bytes(b"")
    with pytest.raises(SilverError, match="has 2 files"):
        train_parser(out, bank)
    (bank / "other-train.conllu").unlink()
    (bank / "en_toy-ud-test.conllu").write_text("1\tno\ttree\n\n")
    with pytest.raises(ValueError, match=r"test\.conllu, line 1.*10 columns"):
        train_parser(out, bank)
    assert not list(tmp_path.glob("out*"))
    out.mkdir()
    with pytest.raises(SilverError, match="is there already; give another --out"):
        train_parser(out, treebank)


def test_every_text_of_the_real_treebank_is_known(sas_data: Path) -> None:
    """So that a parser can be trained on it as on raw text."""
    vocab = spacy.blank("en").vocab
    for sentence in read_conllu(treebank_file(sas_data / "ud_ewt", "dev")):
        assert training_doc(sentence, vocab).text == " ".join(sentence.text.split())


# --- the command line ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("parse", ["--pipeline", "--out", "--processes", "--limit", "--json"]),
        ("train-parser", ["--out", "--treebank", "--max-steps", "--seed", "--json"]),
    ],
)
def test_help_has_options_and_examples(sas: Sas, command: str, options: list[str]) -> None:
    result = sas(command, "--help")
    assert (result.code, result.err) == (0, "")
    for option in options:
        assert f"  {option}" in result.out
    assert sum(f"  sas {command} " in line for line in result.out.splitlines()) == 2


def test_the_command_parses(sas: Sas, chain_pipeline: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parses.parquet"
    arguments = ("parse", text, "--pipeline", chain_pipeline, "--out", out)
    result = sas(*arguments, "--limit", 9, "--json")
    assert result.code == 0 and "9 sentences" not in result.out
    figures = json.loads(result.out)
    assert (figures["sentences"], figures["limit"]) == (9, 9)
    assert "words/s" in result.err  # the progress bar
    assert len(list(read_parses(out))) == 9
    again = sas(*arguments, "--limit", 9)
    assert again.code == 0 and again.out.startswith("9 sentences, ")
    assert "(parsed before), parsed by en_pipeline" in again.out
    one_line_error(sas(*arguments), out, "another limit")


def test_ctrl_c_says_how_to_go_on(
    sas: Sas, chain_pipeline: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silver, "to_sentence", interrupt_after(3))
    out = tmp_path / "x.parquet"
    result = sas("parse", text, "--pipeline", chain_pipeline, "--out", out)
    assert result.code == 130 and not out.exists()
    assert result.err.endswith("stopped; the same command goes on from the last whole part\n")


def test_errors_of_parse(sas: Sas, chain_pipeline: Path, text: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "x.parquet")
    missing = tmp_path / "missing.txt"
    one_line_error(sas("parse", missing, "--pipeline", chain_pipeline, *out), missing)
    one_line_error(sas("parse", text, "--pipeline", "en_none", *out), "en_none", "download")
    text.write_text("")
    one_line_error(sas("parse", text, "--pipeline", chain_pipeline, *out), text, "no sentence")
    assert sas("parse", text, "--pipeline", chain_pipeline, *out, "--processes", 0).code == 2


def test_the_command_trains(sas: Sas, treebank: Path, tmp_path: Path) -> None:
    arguments = ("train-parser", "--treebank", treebank, "--max-steps", 1)
    result = sas(*arguments, "--out", tmp_path / "a", "--json", "--seed", 5)
    assert result.code == 0
    scores = json.loads(result.out)  # and nothing else on standard output
    assert scores == json.loads((tmp_path / "a" / "scores.json").read_text())
    assert scores["seed"] == 5
    table = sas(*arguments, "--out", tmp_path / "b").out.splitlines()
    scores = json.loads((tmp_path / "b" / "scores.json").read_text())
    assert table[1].split() == [
        *("without", "punctuation"),
        f"{scores['dev']['without_punct']['uas']:.3f}",
        f"{scores['dev']['without_punct']['las']:.3f}",
        f"{scores['test']['without_punct']['uas']:.3f}",
        f"{scores['test']['without_punct']['las']:.3f}",
    ]
    assert (
        table[-1] == f"best at step {scores['best_step']}; the pipeline is in {tmp_path / 'b'}"
    )


def test_errors_of_train_parser(
    sas: Sas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ("--out", tmp_path / "x")
    monkeypatch.setenv("SAS_DATA", str(tmp_path))
    one_line_error(sas("train-parser", *out), "SAS_DATA", "ud_ewt")
