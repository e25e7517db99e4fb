"""CoNLL-U and spaCy, in and out, and the errors of malformed files."""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable
from pathlib import Path

import conllu
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_lib.treebank import (
    ROOT,
    Sentence,
    TreebankError,
    from_doc,
    read_conllu,
    to_conllu,
    to_doc,
    tree_problem,
    write_conllu,
)

# "Don't go to it!" written by hand, with a multiword token and an empty node.
ANNOTATED = """\
# newdoc id = d
# sent_id = s-1
# text = Don't go to it!
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\tMood=Imp|VerbForm=Fin\t3\taux\t3:aux\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t3:advmod\t_
3\tgo\tgo\tVERB\tVB\tMood=Imp|VerbForm=Fin\t0\troot\t0:root\t_
3.1\tthere\tthere\tADV\t_\t_\t_\t_\t3:advmod\t_
4\tto\tto\tADP\tIN\t_\t5\tcase\t5:case\t_
5\tit\tit\tPRON\tPRP\tCase=Acc|PronType=Prs\t3\tobl:to\t3:obl:to\tSpaceAfter=No
6\t!\t!\tPUNCT\t.\t_\t3\tpunct\t3:punct\t_

"""


def line(number: object, word: str, head: object, relation: str = "dep") -> str:
    return f"{number}\t{word}\t_\t_\t_\t_\t{head}\t{relation}\t_\t_\n"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str | bytes, name: str = "bank.conllu") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_reads_words_heads_and_relations(written: Callable[..., Path]) -> None:
    (sentence,) = read_conllu(written(ANNOTATED))
    assert sentence.words == ("Do", "n't", "go", "to", "it", "!")
    assert sentence.heads == (2, 2, ROOT, 4, 2, 2)
    assert sentence.relations == ("aux", "advmod", "root", "case", "obl:to", "punct")
    assert sentence.upos == ("AUX", "PART", "VERB", "ADP", "PRON", "PUNCT")
    assert sentence.lemmas == ("do", "not", "go", "to", "it", "!")
    assert sentence.features[0] == "Mood=Imp|VerbForm=Fin"
    assert sentence.features[1] == "_"
    assert (sentence.id, sentence.text) == ("s-1", "Don't go to it!")
    assert len(sentence) == 6
    assert list(sentence.arcs())[:2] == [(0, 2, "aux"), (1, 2, "advmod")]
    assert len(list(sentence.arcs())) == 5


def test_round_trip(written: Callable[..., Path], tmp_path: Path) -> None:
    before = list(read_conllu(written(ANNOTATED * 3)))
    assert write_conllu(before, tmp_path / "again.conllu") == 3
    after = list(read_conllu(tmp_path / "again.conllu"))
    assert after == before
    assert [s.text for s in after] == [s.text for s in before]
    assert to_conllu(after[0]) == to_conllu(before[0])


def test_what_we_write_the_conllu_package_reads_alike(sentences: list[Sentence]) -> None:
    sentence = sentences[7]
    (parsed,) = conllu.parse(to_conllu(sentence))
    assert tuple(token["form"] for token in parsed) == sentence.words
    assert tuple(token["head"] - 1 for token in parsed) == sentence.heads
    assert tuple(token["deprel"] for token in parsed) == sentence.relations
    assert parsed.metadata["text"] == " ".join(sentence.words)


@st.composite
def trees(draw: st.DrawFn) -> Sentence:
    n = draw(st.integers(1, 9))
    order = draw(st.permutations(range(n)))
    heads = [ROOT] * n
    for i in range(1, n):
        heads[order[i]] = order[draw(st.integers(0, i - 1))]
    letters = st.characters(exclude_categories=("C", "Z"))
    words = draw(st.lists(st.text(letters, min_size=1, max_size=5), min_size=n, max_size=n))
    labels = draw(st.lists(st.sampled_from(["nsubj", "obl:to", "x"]), min_size=n, max_size=n))
    relations = ["root" if h == ROOT else r for h, r in zip(heads, labels, strict=True)]
    return Sentence(tuple(words), tuple(heads), tuple(relations))


@settings(max_examples=40)
@given(trees())
def test_round_trip_of_any_tree(
    tmp_path_factory: pytest.TempPathFactory, sentence: Sentence
) -> None:
    assert tree_problem(sentence.heads) is None
    path = tmp_path_factory.mktemp("trees") / "tree.conllu"
    write_conllu([sentence, sentence], path)
    for read in read_conllu(path):
        assert (read.words, read.heads, read.relations) == (
            sentence.words,
            sentence.heads,
            sentence.relations,
        )


def test_features_and_odd_columns_survive_as_written(written: Callable[..., Path]) -> None:
    columns = [
        "1",
        "a",
        "le=mma",
        "NOUN",
        "x",
        "Foo|A=b=c|X=1,2",
        "0",
        "root",
        "gar:bage:",
        "x",
    ]
    (sentence,) = read_conllu(written("\t".join(columns) + "\n\n"))
    assert sentence.features == ("Foo|A=b=c|X=1,2",)
    assert sentence.lemmas == ("le=mma",)


def test_a_word_may_look_like_nothing(written: Callable[..., Path]) -> None:
    (sentence,) = read_conllu(written(line(1, "_", 0, "root") + line(2, "1 000", 1)))
    assert sentence.words == ("_", "1 000")


def test_unusual_files_are_read(written: Callable[..., Path]) -> None:
    last_line_unended = line(1, "a", 0, "root").rstrip("\n")
    assert len(list(read_conllu(written(last_line_unended)))) == 1
    windows = ("# sent_id = w\n" + line(1, "a", 0, "root") + "\n").replace("\n", "\r\n")
    (sentence,) = read_conllu(written(windows))
    assert (sentence.id, sentence.words) == ("w", ("a",))
    (sentence,) = read_conllu(written("\ufeff# sent_id = bom\n" + line(1, "a", 0, "root")))
    assert sentence.id == "bom"
    two = line(1, "a", 0, "root") + "\n\n \n" + line(1, "b", 0, "root")
    assert [s.words for s in read_conllu(written(two))] == [("a",), ("b",)]


def test_xz(written: Callable[..., Path]) -> None:
    path = written(lzma.compress(ANNOTATED.encode()), "bank.conllu.xz")
    assert list(read_conllu(path)) == list(read_conllu(written(ANNOTATED)))


GOOD = "# sent_id = good\n" + line(1, "a", 0, "root") + "\n"
BAD = "# sent_id = bad\n"  # starts at line 4 of the file


@pytest.mark.parametrize(
    ("content", "place", "complaint"),
    [
        (BAD + line(1, "a", 0, "root") + "2\tb\tc\n", "line 6, sentence bad", "10 columns"),
        (BAD + line(1, "a", 2) + line(2, "b", 1), "line 4, sentence bad", "0 roots"),
        (
            BAD + line(1, "a", 0, "root") + line(2, "b", 0, "root"),
            "line 4, sentence bad",
            "2 roots",
        ),
        (
            BAD + line(1, "a", 0, "root") + line(2, "b", 3) + line(3, "c", 2),
            "line 4, sentence bad",
            "cycle through word 2",
        ),
        (BAD + line(1, "a", 0, "root") + line(2, "b", 2), "line 4, sentence bad", "cycle"),
        (
            BAD + line(1, "a", 0, "root") + line(2, "b", 7),
            "line 4, sentence bad",
            "word 2 has the head 7, outside",
        ),
        (BAD + line(1, "a", 0, "root") + line(2, "b", -3), "line 4, sentence bad", "outside"),
        (BAD + line(1, "a", "_", "_"), "line 4, sentence bad", "no head; is this file parsed"),
        (BAD + line(1, "a", "x"), "line 4, sentence bad", "head"),
        (BAD + line("x", "a", 0, "root"), "line 4, sentence bad", "id"),
        (BAD + line(2, "a", 0, "root"), "line 4, sentence bad", "1, 2, 3"),
        (BAD + "# text = nothing\n", "line 4, sentence bad", "no words"),
        (line(1, "a", 1), "line 4, sentence (unnamed)", "0 roots"),
    ],
)
def test_errors_name_file_line_and_sentence(
    written: Callable[..., Path], content: str, place: str, complaint: str
) -> None:
    path = written(GOOD + content)
    reading = read_conllu(path)
    assert next(reading).id == "good"
    with pytest.raises(TreebankError, match=re.escape(complaint)) as caught:
        list(reading)
    assert str(caught.value).startswith(f"{path}, {place}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("", "empty.conllu"),
        ("\n \n", "blank.conllu"),
        (b"\xff\xfe\x00", "binary.conllu"),
        (b"no archive", "bank.conllu.xz"),
        (lzma.compress(GOOD.encode() * 999)[:-40], "cut.conllu.xz"),
    ],
)
def test_a_file_that_is_no_treebank(
    written: Callable[..., Path], content: str | bytes, name: str
) -> None:
    path = written(content, name)
    with pytest.raises(TreebankError, match=re.escape(str(path))):
        list(read_conllu(path))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape("none.conllu")):
        list(read_conllu(tmp_path / "none.conllu"))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.conllu"
    path.write_text("precious")

    def broken() -> object:
        yield Sentence(("a",), (ROOT,), ("root",))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_conllu(broken(), path)
    assert path.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.conllu"]


def test_columns_must_have_the_words_length() -> None:
    with pytest.raises(ValueError, match="2 words but 1 heads"):
        Sentence(("a", "b"), (ROOT,), ("root", "dep"))
    with pytest.raises(ValueError, match="2 words but 3 upos"):
        Sentence(("a", "b"), (ROOT, 0), ("root", "dep"), upos=("X", "X", "X"))


def test_spacy_round_trip(sentences: list[Sentence]) -> None:
    spacy = pytest.importorskip("spacy")
    vocab = spacy.blank("en").vocab
    crossing = Sentence(  # not projective: the arcs 0 <- 2 and 1 <- 3 cross
        ("a", "b", "c", "d"),
        (2, 3, ROOT, 2),
        ("nsubj", "acl:relcl", "root", "obj"),
        upos=("NOUN", "VERB", "VERB", "NOUN"),
    )
    for sentence in [crossing, *sentences[:5]]:
        (again,) = from_doc(to_doc(sentence, vocab))
        assert (again.words, again.heads, again.relations) == (
            sentence.words,
            sentence.heads,
            sentence.relations,
        )
        if sentence.upos:
            assert again.upos == sentence.upos


def test_spacy_agrees_on_heads() -> None:
    spacy = pytest.importorskip("spacy")
    doc = to_doc(
        Sentence(("the", "dog", "barks"), (1, 2, ROOT), ("det", "nsubj", "root")),
        spacy.blank("en").vocab,
    )
    assert [token.head.text for token in doc] == ["dog", "barks", "barks"]
    assert [token.text for token in next(doc.sents).root.subtree] == ["the", "dog", "barks"]


def test_white_space_in_a_doc_is_left_out_and_harmless(written: Callable[..., Path]) -> None:
    spacy = pytest.importorskip("spacy")
    doc = spacy.tokens.Doc(
        spacy.blank("en").vocab,
        words=["go", "\n\n", "home", " ", "I", "sleep"],
        heads=[0, 0, 0, 2, 5, 5],
        deps=["ROOT", "dep", "advmod", "dep", "nsubj", "ROOT"],
        sent_starts=[True, False, False, False, True, False],
    )
    first, second = from_doc(doc)
    assert (first.words, first.heads) == (("go", "home"), (ROOT, 0))
    assert (second.words, second.heads) == (("I", "sleep"), (1, ROOT))
    path = written(to_conllu(first) + to_conllu(second))
    assert [s.words for s in read_conllu(path)] == [first.words, second.words]


def test_a_doc_without_a_parse_is_refused() -> None:
    spacy = pytest.importorskip("spacy")
    with pytest.raises(ValueError, match="no dependency parse"):
        list(from_doc(spacy.blank("en")("not parsed")))


@pytest.mark.parametrize(
    ("folder", "sentences", "files"),
    [("ud_ewt", 16_622, 3), ("ud_pud", 1_000, 1), ("ud_atis", 5_432, 3)],
)
def test_reads_real_treebanks(sas_data: Path, folder: str, sentences: int, files: int) -> None:
    paths = sorted((sas_data / folder).glob("*.conllu"))
    assert len(paths) == files
    count = 0
    for path in paths:
        read = list(read_conllu(path))
        count += len(read)
        # A syntactic word is a line that begins with a whole number and a tab.
        words = re.findall(r"^[0-9]+\t", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert sum(len(sentence) for sentence in read) == len(words)
        assert sum(1 for s in read for _ in s.arcs()) == len(words) - len(read)
    assert count == sentences
