"""Sweeps: many runs that can be stopped at any time, and the links of the control runs."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from filelock import FileLock
from test_pretraining import (
    STEPS,
    TINY,
    Stopper,
    count_words,
    files,
    metrics,
    same_runs,
    same_weights,
    without_speed,
)
from transformers import PreTrainedTokenizerFast

from sas_lib import runs, sweep, sweep_workers, toy_english
from sas_lib.corpus import NO_HEAD, EncodedCorpus, encode
from sas_lib.locks import LOCK
from sas_lib.pretraining import Data, RunError, pretrain
from sas_lib.regularizer import KINDS
from sas_lib.run_state import alone
from sas_lib.settings import Config
from sas_lib.sweep import Job, SweepError, train, unfinished
from sas_lib.treebank import Sentence

TEXT = runs.ToyText(100)
SUPPRESSED = dataclasses.replace(TINY, sas_schedule=((0, 2.0),))
RELEASED = dataclasses.replace(TINY, sas_schedule=((0, 2.0), (7, 0.0)))
LATER = dataclasses.replace(TINY, sas_schedule=((0, 2.0), (13, -1.0)))
BRANCHES = [Job("released", RELEASED), Job("later", LATER)]
TRUNK = Job("trunk", SUPPRESSED, forks={13: BRANCHES[1], 7: BRANCHES[0]})


@pytest.fixture
def data(
    tokenizer: PreTrainedTokenizerFast,
    sentences: list[Sentence],
    monkeypatch: pytest.MonkeyPatch,
) -> Data:
    """A tiny corpus instead of toy English, and one quick measure."""
    tiny = Data(
        tokenizer, encode(sentences[:800:8], tokenizer), encode(sentences[3:900:60], tokenizer)
    )
    monkeypatch.setattr(runs, "toy_data", lambda config, sentences, quiet: tiny)
    monkeypatch.setattr(runs, "toy_measures", lambda data: [count_words])
    return tiny


# --- one job --------------------------------------------------------------------------


def test_a_job_is_a_run(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "sweep", Job("only", SUPPRESSED), TEXT)
    pretrain(tmp_path / "run", SUPPRESSED, data, [count_words], quiet=True)
    same_runs(tmp_path / "run", tmp_path / "sweep" / "only")
    # A finished run is left alone: nothing is even read for it.
    monkeypatch.setattr(runs, "toy_data", lambda *_, **__: pytest.fail("made again"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    train(tmp_path / "sweep", Job("only", SUPPRESSED), TEXT)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_job_of_other_settings_is_refused(data: Data, tmp_path: Path) -> None:
    train(tmp_path, Job("only", dataclasses.replace(TINY, steps=1)), TEXT)
    with pytest.raises(RunError, match="another seed"):
        train(tmp_path, Job("only", dataclasses.replace(TINY, steps=1, seed=9)), TEXT)


def test_forks_are_the_runs_of_their_schedules(data: Data, tmp_path: Path) -> None:
    train(tmp_path, TRUNK, TEXT)
    assert unfinished(tmp_path) == {"released": 7, "later": 13}
    for job in BRANCHES:
        train(tmp_path, job, TEXT)
    assert unfinished(tmp_path) == {}
    whole = tmp_path / "whole"
    for job in (TRUNK, *BRANCHES):
        train(whole, dataclasses.replace(job, forks={}), TEXT)
    same_runs(whole / "trunk", tmp_path / "trunk")
    for step, job in TRUNK.forks.items():
        ours, theirs = (
            without_speed(metrics(folder / job.name)) for folder in (tmp_path, whole)
        )
        assert ours == theirs
        own = [at for at in STEPS if at > step]
        same_weights(tmp_path / job.name, whole / job.name, own)
        saved = {path.name for path in (tmp_path / job.name / "checkpoints").iterdir()}
        assert saved == {f"step-{at:06d}" for at in own}, "the trunk keeps the models before"


@pytest.mark.parametrize("call", [1, 3, 5, 7])
def test_an_interrupted_job_goes_on(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    stopper = Stopper(call, KeyboardInterrupt())
    monkeypatch.setattr(runs, "toy_measures", lambda data: [stopper])
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, TRUNK, TEXT)
    monkeypatch.setattr(runs, "toy_measures", lambda data: [count_words])
    before = {name: forked_at(tmp_path / name) for name in ("released", "later")}
    train(tmp_path, TRUNK, TEXT)
    for name, made in before.items():
        assert made is None or forked_at(tmp_path / name) == made, "not forked again"
    assert unfinished(tmp_path) == {"released": 7, "later": 13}
    pretrain(tmp_path / "run", SUPPRESSED, data, [count_words], quiet=True)
    same_runs(tmp_path / "run", tmp_path / "trunk")


def forked_at(run: Path) -> int | None:
    config = run / "config.json"
    return config.stat().st_mtime_ns if config.exists() else None


def test_a_fork_that_is_there_is_left_alone(data: Data, tmp_path: Path) -> None:
    train(tmp_path, BRANCHES[0], TEXT)
    before = (tmp_path / "released" / "metrics.jsonl").read_bytes()
    train(tmp_path, TRUNK, TEXT)
    assert (tmp_path / "released" / "metrics.jsonl").read_bytes() == before
    assert unfinished(tmp_path) == {"later": 13}


def test_a_branch_begun_meanwhile_does_not_fail_its_trunk(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with two workers and the jobs [trunk, branch]: both are started at once."""
    others = iter([BRANCHES[0]])

    def meanwhile(*args: Any, **kwargs: Any) -> Path:
        for job in others:
            train(tmp_path, job, TEXT)
        return pretrain(*args, **kwargs)

    monkeypatch.setattr(sweep, "pretrain", meanwhile)
    train(tmp_path, TRUNK, TEXT)


def test_a_fork_that_is_past_is_left_to_its_own_job(data: Data, tmp_path: Path) -> None:
    train(tmp_path, dataclasses.replace(TRUNK, stop_at=9, forks={}), TEXT)
    train(tmp_path, TRUNK, TEXT)
    assert unfinished(tmp_path) == {"later": 13}
    assert not (tmp_path / "released").exists()


def test_a_job_may_stop_and_be_taken_up(data: Data, tmp_path: Path) -> None:
    job = Job("some", TINY, stop_at=7)
    train(tmp_path, job, TEXT)
    assert unfinished(tmp_path) == {"some": 7}
    before = (tmp_path / "some" / "state.safetensors").stat().st_mtime_ns
    train(tmp_path, job, TEXT)
    assert (tmp_path / "some" / "state.safetensors").stat().st_mtime_ns == before
    train(tmp_path, dataclasses.replace(job, stop_at=None), TEXT)
    pretrain(tmp_path / "run", TINY, data, [count_words], quiet=True)
    same_runs(tmp_path / "run", tmp_path / "some")


def test_a_run_that_went_on_is_complete_for_a_shorter_job(data: Data, tmp_path: Path) -> None:
    job = Job("some", TINY, stop_at=7)
    assert not sweep.is_complete(tmp_path, job)
    train(tmp_path, dataclasses.replace(job, stop_at=9), TEXT)
    assert sweep.is_complete(tmp_path, job)
    assert not sweep.is_complete(tmp_path, dataclasses.replace(job, stop_at=10))
    assert not sweep.is_complete(tmp_path, dataclasses.replace(job, stop_at=None))


def test_unfinished(data: Data, tmp_path: Path) -> None:
    assert unfinished(tmp_path / "nowhere") == {}
    pretrain(tmp_path / "whole", dataclasses.replace(TINY, steps=3), data, [], quiet=True)
    pretrain(tmp_path / "part", TINY, data, [], quiet=True, stop_at=5)
    with pytest.raises(OSError, match="full"):
        pretrain(tmp_path / "begun", TINY, data, [Stopper(1, OSError("full"))], quiet=True)
    (tmp_path / "no-run").mkdir()
    assert unfinished(tmp_path) == {"begun": 0, "part": 5}


# --- many jobs ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here() -> Iterator[str]:
    """The address of a scheduler whose two workers are threads of this process: quick to
    start, and what a test patches holds for them, too."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Exception]], list[str]]:
    """Makes ``sweep`` train nothing, and fail at the jobs given; the names it was asked for."""
    names: list[str] = []

    def failing(errors: dict[str, Exception]) -> list[str]:
        def stub(folder: Path, job: Job, material: runs.ToyText, device: str) -> None:
            names.append(job.name)
            if job.name in errors:
                raise errors[job.name]

        monkeypatch.setattr(sweep, "train", stub)
        return names

    return failing


def jobs(names: str) -> list[Job]:
    return [Job(name, TINY) for name in names]


def test_a_failing_run_is_named_and_stops_no_other(
    trained: Callable[[dict[str, Exception]], list[str]], tmp_path: Path, here: str
) -> None:
    names = trained({"b": ValueError("no luck"), "d": OSError("no room")})
    found: list[Path] = []
    with pytest.raises(SweepError, match="2 of 5 runs failed: ") as raised:
        for path in sweep.sweep(tmp_path, jobs("abcde"), TEXT, scheduler=here, quiet=True):
            found.append(path)
    assert "b: no luck" in str(raised.value) and "d: no room" in str(raised.value)
    assert set(found) == {tmp_path / name for name in "ace"} and len(found) == 3
    assert sorted(names) == list("abcde")


def test_progress_is_shown(
    trained: Callable[[dict[str, Exception]], list[str]],
    tmp_path: Path,
    here: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained({})
    assert len(list(sweep.sweep(tmp_path, jobs("abc"), TEXT, scheduler=here, quiet=True))) == 3
    assert capsys.readouterr().err == ""
    list(sweep.sweep(tmp_path, jobs("abc"), TEXT, scheduler=here))
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("those", "message"),
    [
        (jobs("aba"), "same name"),
        ([Job("b", TINY), Job("a", TINY, forks={3: Job("b", TINY)})], "b is a fork of a"),
        ([Job("a", TINY, forks={3: Job("a", TINY)})], "a is a fork of a"),
    ],
)
def test_jobs_that_do_not_fit_together_are_refused(
    trained: Callable[[dict[str, Exception]], list[str]],
    tmp_path: Path,
    here: str,
    those: list[Job],
    message: str,
) -> None:
    names = trained({})
    with pytest.raises(SweepError, match=message):
        list(sweep.sweep(tmp_path, those, TEXT, scheduler=here, quiet=True))
    assert names == []


def test_ctrl_c_starts_no_further_run(
    tmp_path: Path, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster is given no job before a worker is free."""
    taken_in: list[str] = []
    submit = Client.submit

    def spy(
        self: Client, function: Any, marker: Path, job: Job, *rest: Any, **more: Any
    ) -> Any:
        taken_in.append(job.name)
        return submit(self, function, marker, job, *rest, **more)

    monkeypatch.setattr(Client, "submit", spy)
    monkeypatch.setattr(sweep, "train", lambda *job: None)
    running = sweep.sweep(tmp_path, jobs("abcdef"), TEXT, scheduler=here, quiet=True)
    assert isinstance(running, Iterator)
    assert next(running) in (tmp_path / "a", tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert taken_in == ["a", "b"]
    assert list(tmp_path.iterdir()) == [], "the marker is gone"


def test_complete_runs_need_no_worker(
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = [Job("whole", dataclasses.replace(TINY, steps=2)), Job("part", TINY, stop_at=3)]
    for job in done:
        train(tmp_path, job, TEXT)
    monkeypatch.setitem(sys.modules, "distributed", None)  # as where it is not installed
    paths = sweep.sweep(tmp_path, [*done, Job("new", TINY)], TEXT, quiet=True)
    assert [next(paths), next(paths)] == [tmp_path / "whole", tmp_path / "part"]
    with pytest.raises(SweepError, match="pip install distributed"):
        next(paths)
    capsys.readouterr()
    assert list(sweep.sweep(tmp_path, done, TEXT)) == [tmp_path / job.name for job in done]
    assert "2/2" in capsys.readouterr().err


def test_a_damaged_run_is_named_and_stops_no_other(
    data: Data, tmp_path: Path, here: str
) -> None:
    short = dataclasses.replace(TINY, steps=1)
    train(tmp_path, Job("damaged", short), TEXT)
    (tmp_path / "damaged" / "state.safetensors").write_bytes(b"half of it")
    good = Job("good", short)
    two = [Job("damaged", short, forks={1: good}), good]
    with pytest.raises(SweepError, match=r"^1 of 2 runs failed: damaged: .* is damaged"):
        list(sweep.sweep(tmp_path, two, TEXT, scheduler=here, quiet=True))
    assert sweep.finished(tmp_path / "good", short)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("fails", [False, True])
def test_a_fork_waits_for_its_state_and_no_longer(
    tmp_path: Path, here: str, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    begun: list[str] = []

    def stub(folder: Path, job: Job, material: runs.ToyText, device: str) -> None:
        begun.append(job.name)
        if job.name == "trunk":
            until(lambda: "other" in begun)
            time.sleep(2.5)  # the worker of the other run has nothing to do now
            assert "released" not in begun
            if fails:
                raise ValueError("no luck")
            (folder / "released").mkdir()
            (folder / "released" / "config.json").write_text("{}")
            until(lambda: "released" in begun)

    monkeypatch.setattr(sweep, "train", stub)
    monkeypatch.setattr(sweep_workers, "ONE_RUN", nullcontext())  # two workers, one process
    released = Job("released", TINY)
    three = [Job("trunk", TINY, forks={7: released}), released]
    running = sweep.sweep(
        tmp_path, [*three, Job("other", TINY)], TEXT, scheduler=here, quiet=True
    )
    with pytest.raises(SweepError, match="trunk: no luck") if fails else nullcontext():
        list(running)
    assert {*begun[:2]} == {"trunk", "other"} and begun[2:] == ["released"]


def test_a_run_is_broken_off_when_nobody_waits_for_it(
    tmp_path: Path, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader's own workers outlive the sweep, so the runs in them have to be ended."""
    ended: list[BaseException] = []

    def stub(folder: Path, job: Job, material: runs.ToyText, device: str) -> None:
        try:
            until(lambda: job.name == "short")
        except BaseException as error:
            ended.append(error)
            raise

    monkeypatch.setattr(sweep, "train", stub)
    monkeypatch.setattr(sweep_workers, "ONE_RUN", nullcontext())
    two = [Job("long", TINY), Job("short", TINY)]
    running = sweep.sweep(tmp_path, two, TEXT, scheduler=here, quiet=True)
    assert next(running) == tmp_path / "short"
    running.close()  # type: ignore[attr-defined]
    until(lambda: bool(ended))
    assert isinstance(ended[0], sweep_workers.CalledOff)


def test_a_lost_worker_may_be_slow_to_let_go_of_its_run(
    data: Data, tmp_path: Path, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("only", dataclasses.replace(TINY, steps=2))
    train(tmp_path, dataclasses.replace(job, stop_at=1), TEXT)
    lock = FileLock(tmp_path / "only" / LOCK, thread_local=False)
    lock.acquire()
    threading.Timer(1, lock.release).start()
    assert list(sweep.sweep(tmp_path, [job], TEXT, scheduler=here, quiet=True))
    train(tmp_path, Job("held", TINY, stop_at=1), TEXT)
    monkeypatch.setattr(sweep_workers, "PATIENCE", 0.1)
    with (
        alone(tmp_path / "held"),
        pytest.raises(SweepError, match="another process is training"),
    ):
        list(sweep.sweep(tmp_path, [Job("held", TINY)], TEXT, scheduler=here, quiet=True))


TOY = Config(
    layers=1,
    width=16,
    heads=2,
    vocab_size=1500,
    max_length=40,
    batch_size=8,
    warmup_steps=2,
    steps=4,
    log_checkpoints=0,
    even_checkpoints=1,
    sas_schedule=((0, 1.0),),
)


def test_a_sweep_in_processes(tmp_path: Path) -> None:
    """A real worker on real toy English: one run fails, the other is as any run."""
    two = [Job("good", TOY), Job("bad", dataclasses.replace(TOY, heads=5))]
    found: list[Path] = []
    before = set(multiprocessing.active_children())  # of other tests, which wait for more
    with pytest.raises(SweepError, match=r"^1 of 2 runs failed: bad: width 16 is no multiple"):
        for path in sweep.sweep(tmp_path, two, runs.ToyText(600), workers=1, quiet=True):
            assert len(set(multiprocessing.active_children()) - before) == 1
            found.append(path)
    assert found == [tmp_path / "good"]
    assert set(multiprocessing.active_children()) <= before
    assert torch.get_num_threads() == 1, "as in the worker"
    runs.toy_run(tmp_path / "run", TOY, 600, quiet=True)
    same_runs(tmp_path / "run", tmp_path / "good")
    assert not (tmp_path / "bad").exists()


# --- the links of the controls --------------------------------------------------------


def test_controls_are_trained_on_other_links() -> None:
    """Only the training sentences' links differ: what is read and what is measured does not."""
    made = {
        kind: runs.toy_data(dataclasses.replace(TOY, penalty=kind), 120, quiet=True)
        for kind in KINDS
    }
    gold = made["sas"]
    for kind, data in made.items():
        assert data.tokenizer.get_vocab() == gold.tokenizer.get_vocab()
        assert np.array_equal(data.train.pieces, gold.train.pieces)
        assert np.array_equal(heads_of(data.valid), heads_of(gold.valid))
        relinked = kind in ("random_trees", "next_word", "random_pairs")
        assert np.array_equal(heads_of(data.train), heads_of(gold.train)) == (not relinked)
        assert (data.fingerprint() == gold.fingerprint()) == (not relinked)
    config = dataclasses.replace(TOY, penalty="random_trees")
    again = runs.toy_data(config, 120, quiet=True).train
    assert np.array_equal(heads_of(made["random_trees"].train), heads_of(again))


def heads_of(corpus: EncodedCorpus) -> np.ndarray:
    assert corpus.heads is not None
    return corpus.heads


def test_next_word_links_are_those_of_the_pieces() -> None:
    data = runs.toy_data(
        dataclasses.replace(TOY, max_length=200, penalty="next_word"), 60, True
    )
    assert data.train.heads is not None
    for number, sentence in enumerate(toy_english.sentences(60, runs.TRAIN_SEED)):
        a, b = data.train.starts[number], data.train.starts[number + 1]
        heads = data.train.heads[a:b]
        firsts = [1]
        for word in sentence.words[:-1]:
            firsts.append(firsts[-1] + len(data.tokenizer.tokenize(word)))
        expected = np.full(len(heads), NO_HEAD)
        for first, following in pairwise(firsts):
            expected[first] = following
        assert heads.tolist() == expected.tolist()


def test_config_of_a_job_is_that_of_its_folder(data: Data, tmp_path: Path) -> None:
    train(tmp_path, TRUNK, TEXT)
    for job in (TRUNK, *BRANCHES):
        saved = json.loads((tmp_path / job.name / "config.json").read_text())
        assert saved == job.config.as_json()
        assert "config.json" in files(tmp_path / job.name)
