"""Killed at any moment, or on a full disk, a run goes on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Sas, one_line_error
from safetensors.torch import load_file
from test_pretraining import (
    STEPS,
    TINY,
    count_words,
    files,
    metrics,
    same_runs,
    same_tensors,
    same_weights,
    without_speed,
)
from transformers import PreTrainedTokenizerFast

from sas_lib import runs
from sas_lib.corpus import encode
from sas_lib.model import load
from sas_lib.parallel import Parallel
from sas_lib.pretraining import (
    Data,
    Row,
    RunError,
    _Run,
    check_start,
    finished,
    fork,
    pretrain,
)
from sas_lib.run_state import StateError, alone, read_counters

SUPPRESSED = dataclasses.replace(TINY, sas_schedule=((0, 2.0),))


def make_data(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Data:
    return Data(tokenizer, encode(texts[:800:8], tokenizer), encode(texts[3:900:60], tokenizer))


@pytest.fixture(scope="module")
def data(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Data:
    return make_data(tokenizer, texts)


@pytest.fixture(scope="module")
def unbroken(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    pretrain(out, TINY, data, [count_words], quiet=True)
    return out


# --- killed ---------------------------------------------------------------------------

# One process imports the library and forks a child for each run, which is killed at a file
# operation, in the middle of a file, or at any moment; the next child resumes that run.
FORKING = """
import os, random, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_interruptions as t
from transformers import AutoTokenizer
from sas_lib import run_state

folder = Path({folder!r})
data = t.make_data(AutoTokenizer.from_pretrained(folder / "tokenizer"),
                   (folder / "texts.txt").read_text().splitlines())
counted = "os.rename os.remove os.rmdir os.mkdir open".split()

def child(out, keep, limit=None, half=None, after=None):
    "The exit status of a run in a child; with a limit it is killed at that operation."
    began, pid = time.monotonic(), os.fork()
    if pid == 0:
        try:
            left = [limit]
            def hook(event, arguments):
                reads = event == "open" and arguments[1] in ("r", "rb", None)
                if event in counted and not reads:
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
            if limit:
                sys.addaudithook(hook)
            if half:
                whole, calls = run_state.save_file, [half]
                def halved(tensors, path, *rest):
                    whole(tensors, path, *rest)
                    calls[0] -= 1
                    if calls[0] == 0:
                        os.truncate(path, os.path.getsize(path) // 2)
                        os.kill(os.getpid(), signal.SIGKILL)
                run_state.save_file = halved
            if after:
                threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
            t.pretrain(out, t.TINY, data, [t.count_words], resume=True, quiet=True, keep=keep)
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    print(Path(out).name, limit, half, after, code, round(time.monotonic() - began, 2),
          file=sys.stderr, flush=True)
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"{{out}} failed at {{limit}} {{half}} {{after}}: {{code}}")
    t.what_is_there_is_whole(Path(out), folder.parent / "unbroken")
    return code

chance = random.Random({seed})
began = time.monotonic()
assert child(str(folder / "all"), None, half=3)
alone = 2.5 * (time.monotonic() - began)
# A run of 24 steps makes some 115 operations, a checkpoint some 14.
kills = 0
while child(str(folder / "kept"), 2, limit=chance.randrange(2, 60)):
    kills += 1
assert kills > 2, kills
assert child(str(folder / "all"), None, half=1)
moments = 0
while moments < 4 and child(str(folder / "all"), None, after=chance.uniform(0.1, 0.6) * alone):
    moments += 1
child(str(folder / "all"), None)
print("killed", kills, moments, flush=True)
"""


def what_is_there_is_whole(run: Path, unbroken: Path) -> None:
    """Whatever has its name is complete and is what the run that was never killed has."""
    for folder in sorted((run / "checkpoints").glob("*")):
        theirs = unbroken / "checkpoints" / folder.name
        assert {p.name for p in folder.iterdir()} == {p.name for p in theirs.iterdir()}
        for path in folder.glob("*.json"):
            assert json.loads(path.read_text()), path
        same_tensors(folder / "model.safetensors", theirs / "model.safetensors")
    if (run / "state.safetensors").exists():
        load_file(run / "state.safetensors")
        assert read_counters(run / "state.safetensors")["step"] in STEPS
    if (run / "config.json").exists():
        assert json.loads((run / "config.json").read_text()) == TINY.as_json()


def test_killed_at_any_moment(unbroken: Path, texts: list[str]) -> None:
    folder = unbroken.parent / "killed"
    folder.mkdir()
    (folder / "texts.txt").write_text("\n".join(texts))
    (unbroken / "tokenizer").rename(folder / "tokenizer")
    script = FORKING.format(tests=str(Path(__file__).parent), folder=str(folder), seed=7)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=400
    )
    (folder / "tokenizer").rename(unbroken / "tokenizer")
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    assert "killed" in done.stdout
    same_runs(unbroken, folder / "all")
    expected = without_speed(metrics(unbroken))
    kept = folder / "kept"
    assert without_speed(metrics(kept)) == expected
    at = sorted(path.name for path in (kept / "checkpoints").iterdir())
    assert at == ["step-000018", "step-000024"]
    same_weights(unbroken, kept, [18, 24])
    same_tensors(unbroken / "state.safetensors", kept / "state.safetensors")
    assert not [file for file in files(kept) if ".part" in file]


# --- a full disk ----------------------------------------------------------------------


@contextmanager
def emptied() -> Iterator[None]:
    """Afterwards files may be of any size again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Filling:
    """A measure at whose ``call``-th call the disk fills: no file takes over ``room`` bytes,
    which is the same error of the same calls."""

    def __init__(self, call: int, room: int) -> None:
        self.left, self.room = call, room

    def __call__(self, model: Any, tokenizer: Any) -> list[Row]:
        self.left -= 1
        if self.left == 0:
            fill(self.room)
        return count_words(model, tokenizer)


def fill(room: int) -> None:
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    )


@pytest.mark.parametrize(
    ("call", "room", "cut"),
    [
        (1, 300, "metrics"),
        (4, 1700, "metrics"),
        (1, 60_000, "model"),
        (4, 60_000, "model"),
        (1, 120_000, "model"),
        (4, 250_000, "state"),
        (8, 250_000, "state"),
    ],
)
def test_a_full_disk_costs_nothing(
    unbroken: Path, data: Data, tmp_path: Path, call: int, room: int, cut: str
) -> None:
    out = tmp_path / "run"
    with emptied(), pytest.raises(RunError, match=f"^cannot write to {out}: .*File too") as e:
        pretrain(out, TINY, data, [Filling(call, room)], quiet=True)
    assert str(e.value).endswith("; make room and go on with --resume")
    assert len(str(e.value).splitlines()) == 1
    # What was cut short has not the name of a model or of the state.
    assert ((out / "metrics.jsonl").stat().st_size == room) == (cut == "metrics")
    before = STEPS[: call - 1]
    last = STEPS[call - 1 : call] if cut == "state" else []
    found = sorted((out / "checkpoints").glob("*")) if (out / "checkpoints").exists() else []
    assert [int(folder.name[5:]) for folder in found] == [*before, *last]
    if before:
        model, _ = load(out / "checkpoints" / f"step-{before[-1]:06d}")
        rows = {r["metric"]: r["value"] for r in metrics(unbroken) if r["step"] == before[-1]}
        assert count_words(model, data.tokenizer)[0]["value"] == rows["size"]
        assert read_counters(out / "state.safetensors")["step"] == before[-1]
    assert (out / "state.safetensors").exists() == bool(before)
    pretrain(out, TINY, data, [count_words], resume=True, quiet=True)
    same_runs(unbroken, out)


def test_a_disk_full_from_the_start(
    sas: Sas, unbroken: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer does not fit: as a user sees it, a line and no traceback."""

    def run(out: Path, *rest: Any, **options: Any) -> Path:
        return pretrain(out, TINY, data, [count_words], quiet=True)

    out = tmp_path / "run"
    monkeypatch.setattr(runs, "toy_run", run)
    with emptied():
        fill(1000)
        result = sas("pretrain", "--out", out)
    one_line_error(result, f"sas: cannot write to {out}: File too large")
    assert len(result.err.splitlines()) == 1
    pretrain(out, TINY, data, [count_words], quiet=True)  # there is no run to go on with
    same_runs(unbroken, out)


def test_a_disk_full_on_resuming(unbroken: Path, data: Data, tmp_path: Path) -> None:
    """The metrics that are read back are not lost where they cannot be written."""
    out = tmp_path / "run"
    pretrain(out, TINY, data, [count_words], quiet=True, stop_at=12)
    before = (out / "metrics.jsonl").read_bytes()
    with emptied(), pytest.raises(RunError, match=r"^cannot write to .*--resume$"):
        fill(600)
        pretrain(out, TINY, data, [count_words], resume=True, quiet=True)
    assert (out / "metrics.jsonl").read_bytes() == before
    pretrain(out, TINY, data, [count_words], resume=True, quiet=True)
    same_runs(unbroken, out)


def test_a_damaged_state_is_named(data: Data, tmp_path: Path) -> None:
    """A copy that was cut short is not taken for a state."""
    out = tmp_path / "run"
    pretrain(out, TINY, data, [], quiet=True, stop_at=3)
    state = out / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(StateError, match=r"state.safetensors is damaged \(.*start anew$"):
        pretrain(out, TINY, data, [], resume=True, quiet=True)
    with pytest.raises(StateError, match="damaged"):
        finished(out, TINY)


# --- what is kept ---------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 3, 50])
def test_the_latest_models_are_kept(
    unbroken: Path, data: Data, tmp_path: Path, keep: int
) -> None:
    """At each moment; and the state that resume needs is none of them."""
    out, seen = tmp_path / "run", []

    def look(model: Any, tokenizer: Any) -> list[Row]:
        if (out / "checkpoints").exists():
            seen.append(sorted(int(p.name[5:]) for p in (out / "checkpoints").iterdir()))
        return count_words(model, tokenizer)

    pretrain(out, TINY, data, [look], quiet=True, keep=keep, stop_at=13)
    assert (out / "state.safetensors").exists()
    pretrain(out, TINY, data, [look], resume=True, quiet=True, keep=keep)
    assert seen == [STEPS[: n + 1][-keep:] for n in range(len(STEPS) - 1)]
    at = sorted(int(p.name[5:]) for p in (out / "checkpoints").iterdir())
    assert at == STEPS[-keep:]
    same_weights(unbroken, out, at)
    assert without_speed(metrics(unbroken)) == without_speed(metrics(out))
    for name in ("state.safetensors", "config.json", "tokenizer/tokenizer.json"):
        assert (out / name).exists()
    # Of the optimiser's states there is one.
    assert [n for n in files(out) if "state" in n] == ["state.safetensors"]


def test_steps_are_kept_in_the_order_of_numbers(data: Data, tmp_path: Path) -> None:
    """A million is after 999,999, though not in the alphabet."""
    out = tmp_path / "run"
    pretrain(out, TINY, data, [], quiet=True, stop_at=0)
    for step in (999_998, 999_999, 1_000_000):
        (out / "checkpoints" / f"step-{step}").mkdir()
    run = _Run(out, TINY, data, Parallel(check_start(out, True, "cpu")), keep=2)
    run.save_checkpoint(1_000_001)
    kept = {path.name for path in (out / "checkpoints").iterdir()}
    assert kept == {"step-1000000", "step-1000001"}


def test_a_fork_starts_from_the_exact_state(data: Data, tmp_path: Path) -> None:
    """Between two checkpoints: weights, moments, running sums and counters, bit for bit."""
    run, out = tmp_path / "run", tmp_path / "fork"
    tree = dataclasses.replace(SUPPRESSED, penalty="sharpness")
    pretrain(run, tree, data, [count_words], quiet=True, stop_at=10)
    fork(run, out, ((0, 2.0), (10, 0.0)))
    assert (run / "state.safetensors").read_bytes() == (out / "state.safetensors").read_bytes()
    assert (run / "metrics.jsonl").read_bytes() == (out / "metrics.jsonl").read_bytes()
    state = load_file(out / "state.safetensors")
    counters = read_counters(out / "state.safetensors")
    assert (counters["step"], counters["measured"], counters["summed"]) == (10, 8, 2)
    moments = [key for key in state if key.startswith("optimizer.")]
    assert {key.rsplit(".")[-1] for key in moments} == {"exp_avg", "exp_avg_sq", "step"}
    assert all(state[key].item() == 10 for key in moments if key.endswith(".step"))
    assert (state["sums"] > 0).all()
    # What each then learns from is that state, and the trunk's own is untouched.
    pretrain(out, runs_config(out), data, [count_words], resume=True, quiet=True)
    assert read_counters(run / "state.safetensors") == counters


def runs_config(out: Path) -> Any:
    settings = json.loads((out / "config.json").read_text())
    settings["sas_schedule"] = tuple(map(tuple, settings["sas_schedule"]))
    return dataclasses.replace(TINY, **settings)


def test_two_processes_do_not_train_one_run(data: Data, unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain(out, TINY, data, [count_words], quiet=True, stop_at=5)
    before = files(out)
    with alone(out), pytest.raises(RunError, match=r"another process is training .*run"):
        pretrain(out, TINY, data, [count_words], resume=True, quiet=True)
    assert files(out) == before
    pretrain(out, TINY, data, [count_words], resume=True, quiet=True)
    same_runs(unbroken, out)
