"""Silver parses on disk: what comes back, and what is left when writing is stopped."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_lib.parses import (
    ParsesError,
    parses_metadata,
    parts_folder,
    read_parses,
    spaces,
    write_parses,
)
from sas_lib.treebank import ROOT, Sentence

MADE_BY = {"pipeline": "en_test", "text_sha256": "0" * 64}
WORDS = [
    Sentence(
        ("It", "'s", "late", "."), (2, 2, ROOT, 2), ("a", "b", "root", "p"), text="It's late."
    ),
    Sentence(("Go", "!"), (ROOT, ROOT), ("root", "root"), text="Go !"),
    Sentence(("so",), (ROOT,), ("root",), text="so"),
]


def numbered(n: int, start: int = 0) -> Iterator[Sentence]:
    """Sentences that differ from each other."""
    for i in range(start, n):
        words = ("Number", str(i), "of", f"w{i % 7}") + ("more",) * (i % 5)
        heads = (ROOT, 0, 3, 1, *tuple(range(3, 3 + i % 5)))
        yield Sentence(words, heads, ("root",) + ("dep",) * (len(words) - 1))


def source(n: int, calls: list[int] | None = None) -> Callable[[int], Iterator[Sentence]]:
    def parses_from(start: int) -> Iterator[Sentence]:
        if calls is not None:
            calls.append(start)
        return numbered(n, start)

    return parses_from


def as_rows(sentences: list[Sentence]) -> list[tuple]:
    return [(s.words, s.heads, s.relations) for s in sentences]


# --- what comes back --------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x.parses.parquet"
    assert write_parses(path, lambda start: iter(WORDS[start:]), MADE_BY) == 3
    back = list(read_parses(path))
    assert back == WORDS
    assert [s.text for s in back] == ["It's late.", "Go !", "so"]
    assert parses_metadata(path) == {**MADE_BY, "part_size": 10_000}
    assert [p.name for p in tmp_path.iterdir()] == ["x.parses.parquet"]


def test_another_library_reads_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parses.parquet"
    write_parses(path, lambda start: iter(WORDS[start:]), MADE_BY)
    table = pd.read_parquet(path)
    assert [list(row) for row in table["words"]] == [list(s.words) for s in WORDS]
    assert [list(row) for row in table["heads"]] == [[2, 2, -1, 2], [-1, -1], [-1]]
    assert [list(row) for row in table["relations"]] == [list(s.relations) for s in WORDS]
    assert [list(row) for row in table["spaces"]] == [
        [False, True, False, False],
        [True, False],
        [False],
    ]
    assert table["heads"][0].dtype == "int16"


@st.composite
def forests(draw: st.DrawFn) -> Sentence:
    """Words with any heads; with a text, with a text that does not fit, or with none."""
    words = draw(st.lists(st.text("ab é\u2009中.", min_size=1).filter(str.strip), max_size=6))
    words = ["".join(word.split()) for word in words]
    heads = [draw(st.integers(-1, len(words) - 1)) for _ in words]
    relations = [draw(st.sampled_from(["root", "obl:to", "x"])) for _ in words]
    gaps = [draw(st.sampled_from(["", " "])) for _ in words]
    text = "".join(itertools.chain(*zip(words, gaps, strict=True))).strip()
    text = draw(st.sampled_from([text, "", "something else"]))
    return Sentence(tuple(words), tuple(heads), tuple(relations), text=text)


@settings(max_examples=30)
@given(st.lists(forests(), max_size=7))
def test_round_trip_of_anything(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[Sentence]
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.parses.parquet"
    assert write_parses(path, lambda i: iter(sentences[i:]), MADE_BY, 3) == len(sentences)
    back = list(read_parses(path))
    assert back == sentences
    for before, after in zip(sentences, back, strict=True):
        fits = "".join(before.text.split()) == "".join(before.words)
        assert after.text == (before.text if fits else " ".join(before.words))


def test_spaces_worked_by_hand() -> None:
    assert spaces(WORDS[0]) == [False, True, False, False]
    wide = Sentence(("a", "b"), (ROOT, 0), ("root", "x"), text=" a \t b\n")
    assert spaces(wide) == [True, False]
    for text in ("", "a", "a c", "a b c", "ab c"):
        assert spaces(Sentence(("a", "b"), (ROOT, 0), ("root", "x"), text=text)) is None


def test_it_is_small_on_disk(tmp_path: Path) -> None:
    """A word takes less room than in its plain text."""
    path = tmp_path / "x.parses.parquet"
    write_parses(path, source(20_000), MADE_BY)
    plain = sum(len(" ".join(s.words)) + 1 for s in numbered(20_000))
    assert path.stat().st_size < plain / 2


def test_reading_goes_group_by_group(tmp_path: Path) -> None:
    """What is damaged later in the file does no harm to what comes first."""
    path = tmp_path / "x.parses.parquet"
    write_parses(path, source(30), MADE_BY, part_size=10)
    with pq.ParquetFile(path) as file:
        assert file.num_row_groups == 3
        start = file.metadata.row_group(1).column(0).dictionary_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 60] = b"\xff" * 60
    path.write_bytes(content)
    reading = read_parses(path)
    assert list(itertools.islice(reading, 10)) == list(numbered(10))
    with pytest.raises(ParsesError, match=r"x\.parses\.parquet is no whole Parquet file"):
        next(reading)


def test_files_that_are_no_parses(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_parses(tmp_path / "none.parquet"))
    path = tmp_path / "x.parquet"
    path.write_text("plain text")
    with pytest.raises(ParsesError, match=r"no whole Parquet file.*copy it again"):
        list(read_parses(path))
    pq.write_table(pa.table({"words": [["a"]]}), path)
    with pytest.raises(ParsesError, match="no file of parses"):
        list(read_parses(path))
    write_parses(tmp_path / "good.parquet", source(500), MADE_BY)
    path.write_bytes((tmp_path / "good.parquet").read_bytes()[:-10])
    with pytest.raises(ParsesError, match="no whole Parquet file"):
        parses_metadata(path)


# --- stopped and gone on with -----------------------------------------------------------


@pytest.fixture
def uninterrupted(tmp_path: Path) -> bytes:
    path = tmp_path / "whole" / "x.parses.parquet"
    path.parent.mkdir()
    write_parses(path, source(47), MADE_BY, part_size=10)
    return path.read_bytes()


def test_stopped_anywhere_it_gives_the_same_file(tmp_path: Path, uninterrupted: bytes) -> None:
    path = tmp_path / "x.parses.parquet"

    def stops_after(n: int) -> Callable[[int], Iterator[Sentence]]:
        def parses_from(start: int) -> Iterator[Sentence]:
            yield from itertools.islice(numbered(47, start), n)
            raise KeyboardInterrupt

        return parses_from

    for n in (5, 10, 23):  # before the first part, at the end of one, in the midst of one
        with pytest.raises(KeyboardInterrupt):
            write_parses(path, stops_after(n), MADE_BY, part_size=10)
        assert not path.exists()
    parts = sorted(p.name for p in parts_folder(path).glob("part-*"))
    assert parts == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    calls: list[int] = []
    assert write_parses(path, source(47, calls), MADE_BY, part_size=10) == 47
    assert calls == [30]
    assert path.read_bytes() == uninterrupted
    assert not parts_folder(path).exists()


def test_stopped_while_the_parts_are_joined(
    tmp_path: Path, uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parses.parquet"
    with monkeypatch.context() as patch:
        patch.setattr("sas_lib.parses.pq.read_table", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_parses(path, source(47), MADE_BY, part_size=10)
    assert not path.exists()
    calls: list[int] = []
    write_parses(path, source(47, calls), MADE_BY, part_size=10)
    assert calls == [50]  # nothing is left to parse, and the short last part stays one
    assert path.read_bytes() == uninterrupted


def test_killed_it_goes_on(tmp_path: Path, uninterrupted: bytes) -> None:
    path = tmp_path / "x.parses.parquet"
    script = f"""
import sys, time
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_parses import MADE_BY, numbered
from sas_lib.parses import write_parses
def slowly(start):
    for i, sentence in enumerate(numbered(47, start)):
        time.sleep(0 if i < 25 else 60)
        yield sentence
write_parses({str(path)!r}, slowly, MADE_BY, part_size=10)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    second = parts_folder(path) / "part-00001.parquet"
    while not second.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    calls: list[int] = []
    write_parses(path, source(47, calls), MADE_BY, part_size=10)
    assert calls == [20]
    assert path.read_bytes() == uninterrupted


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """Parses of which three parts are written."""
    path = tmp_path / "x.parses.parquet"

    def fails(start: int) -> Iterator[Sentence]:
        yield from numbered(30, start)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_parses(path, fails, MADE_BY, part_size=10)
    return path


def test_a_damaged_part_is_written_again(stopped: Path, uninterrupted: bytes) -> None:
    (parts_folder(stopped) / "part-00001.parquet").write_bytes(b"")
    calls: list[int] = []
    write_parses(stopped, source(47, calls), MADE_BY, part_size=10)
    assert calls == [10]
    assert stopped.read_bytes() == uninterrupted


def test_parts_of_other_parses_are_refused(stopped: Path) -> None:
    parts = parts_folder(stopped)
    calls: list[int] = []
    with pytest.raises(ParsesError, match=r"x\.parses\.parts was made with another pipeline;"):
        write_parses(stopped, source(47, calls), {**MADE_BY, "pipeline": "b"}, part_size=10)
    with pytest.raises(ParsesError, match="another limit, part_size; remove it, or"):
        write_parses(stopped, source(47, calls), {**MADE_BY, "limit": 1}, part_size=9)
    assert not calls and len(list(parts.glob("part-*"))) == 3


def test_a_finished_file_is_left_alone(tmp_path: Path, stopped: Path) -> None:
    write_parses(stopped, source(47), MADE_BY, part_size=10)
    before = stopped.read_bytes()
    parts_folder(stopped).mkdir()  # as if it had been killed just before the end
    calls: list[int] = []
    assert write_parses(stopped, source(47, calls), MADE_BY, part_size=10) == 47
    with pytest.raises(ParsesError, match=r"x\.parses\.parquet was made with another pipeline"):
        write_parses(stopped, source(47, calls), {**MADE_BY, "pipeline": "b"}, part_size=10)
    assert not calls and stopped.read_bytes() == before
    assert not parts_folder(stopped).exists()


def test_what_else_is_in_the_folder_of_parts_stays(stopped: Path) -> None:
    other = parts_folder(stopped) / "part of a thesis.txt"
    other.write_text("years of work")
    (parts_folder(stopped) / "part-00003.parquet.part").touch()  # what a kill leaves
    write_parses(stopped, source(47), MADE_BY, part_size=10)
    assert list(parts_folder(stopped).iterdir()) == [other]


def test_two_processes_do_not_write_the_same_parses(stopped: Path) -> None:
    with (
        FileLock(parts_folder(stopped) / ".lock"),
        pytest.raises(ParsesError, match=r"another process is writing .*x\.parses\.parts"),
    ):
        write_parses(stopped, source(47), MADE_BY, part_size=10)
    assert write_parses(stopped, source(47), MADE_BY, part_size=10) == 47
