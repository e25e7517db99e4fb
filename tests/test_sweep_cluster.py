"""The workers of a sweep: killed ones, the reader's own, and clusters that cannot be used."""

from __future__ import annotations

import dataclasses
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import distributed
import psutil
import pytest
from distributed import KilledWorker, LocalCluster
from test_pretraining import metrics, same_runs, without_speed
from test_sweep import TOY

from sas_lib import runs, sweep_workers
from sas_lib import sweep as sweeps
from sas_lib.locks import LOCK
from sas_lib.run_state import read_counters
from sas_lib.settings import checkpoint_steps
from sas_lib.sweep import Job, sweep, unfinished
from sas_lib.sweep_workers import SweepError, reason

TEXT = runs.ToyText(600)
TRUNK = dataclasses.replace(TOY, steps=8, even_checkpoints=4)
BRANCH = dataclasses.replace(TRUNK, sas_schedule=((0, 1.0), (2, 0.0)))
NO_DASHBOARD = "127.0.0.1:0"


def holder(run: Path) -> psutil.Process:
    """The worker that trains a run: it holds its lock (but for a moment, as it forks)."""
    for _ in range(1000):
        for child in multiprocessing.active_children():
            process = psutil.Process(child.pid)
            if any(Path(file.path) == run / LOCK for file in process.open_files()):
                return process
        time.sleep(0.001)
    raise AssertionError(f"nobody trains {run}")


def test_the_run_of_a_killed_worker_is_taken_up_by_another(tmp_path: Path) -> None:
    folder, found = tmp_path / "sweep", list[Path]()
    branch = Job("branch", BRANCH)
    two = [Job("trunk", TRUNK, forks={2: branch}), branch]
    thread = threading.Thread(
        target=lambda: found.extend(sweep(folder, two, TEXT, workers=2, quiet=True))
    )
    thread.start()
    trunk, state = folder / "trunk", folder / "trunk" / "state.safetensors"
    while not (state.exists() and read_counters(state)["measured"] >= 2):
        assert thread.is_alive()
        time.sleep(0.01)
    victim = holder(trunk)
    victim.kill()
    victim.wait()
    at = read_counters(state)["measured"]
    assert 2 <= unfinished(folder)["trunk"] < TRUNK.steps, "it was begun and not finished"
    before = [row for row in metrics(trunk) if row["step"] <= at]

    thread.join()
    assert sorted(found) == [folder / "branch", trunk]
    assert metrics(trunk)[: len(before)] == before, "speeds, too: nothing was trained again"
    for job in two:
        rows = metrics(folder / job.name)
        keys = ("metric", "detail", "layer", "head", "direction")
        values = Counter((row["step"], *map(row.get, keys)) for row in rows)
        assert set(values.values()) == {1}
        assert sorted({row["step"] for row in rows}) == checkpoint_steps(job.config)
        undisturbed = tmp_path / job.name
        runs.toy_run(undisturbed, job.config, 600, quiet=True)
        assert without_speed(metrics(undisturbed)) == without_speed(rows)
    same_runs(tmp_path / "trunk", trunk)


# --- the reader's own cluster ---------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=NO_DASHBOARD
    ) as cluster:
        yield cluster


def test_runs_of_an_outside_cluster(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = cluster.scheduler_address
    assert address.startswith("tcp://")
    monkeypatch.setattr(distributed, "LocalCluster", lambda *_, **__: pytest.fail("its own"))
    monkeypatch.chdir(tmp_path)  # the worker was started elsewhere
    paths = sweep("runs", [Job("only", TOY)], TEXT, scheduler=address, quiet=True)
    assert list(paths) == [Path("runs/only")]
    runs.toy_run("alone", TOY, 600, quiet=True)
    same_runs(Path("alone"), Path("runs/only"))
    with distributed.Client(address, set_as_default=False) as client:
        assert len(client.nthreads()) == 1, "it is left as it was"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_workers, "PATIENCE", 1)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "no such"])
def test_a_wrong_address_is_named(impatient: None, tmp_path: Path, address: str) -> None:
    with pytest.raises(SweepError, match=f"no dask scheduler answers at {address}: ") as raised:
        list(sweep(tmp_path / "runs", [Job("a", TOY)], TEXT, scheduler=address, quiet=True))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("workers", "threads", "message"),
    [(0, 1, "the cluster has no worker: "), (1, 2, "takes 2 tasks at a time: .* --nthreads 1")],
)
def test_a_cluster_of_other_workers_is_refused(
    impatient: None, tmp_path: Path, workers: int, threads: int, message: str
) -> None:
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=False,
            dashboard_address=NO_DASHBOARD,
        ) as here,
        pytest.raises(SweepError, match=message),
    ):
        list(
            sweep(tmp_path, [Job("a", TOY)], TEXT, scheduler=here.scheduler_address, quiet=True)
        )


def test_a_worker_that_does_not_see_the_folder_is_refused(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine with another disk: the marker is not there."""
    monkeypatch.setattr(Path, "touch", lambda *_: None)
    address = cluster.scheduler_address
    message = f"^the worker tcp:.* cannot be used: .* does not see the folder {tmp_path}"
    with pytest.raises(SweepError, match=message):
        list(sweep(tmp_path, [Job("a", TOY)], TEXT, scheduler=address, quiet=True))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SweepError, match="does not see"):  # a worker that came later
        sweeps._task(tmp_path / "marker", Job("a", TOY), {}, 600, 1)


def test_a_cluster_that_goes_away_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def stub(folder: Path, job: Job, *rest: Any) -> None:
        try:
            while job.name == "long":
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setattr(sweeps, "train", stub)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=NO_DASHBOARD
        ) as here,
    ):
        two = [Job("short", TOY), Job("long", TOY)]
        running = sweep(tmp_path, two, TEXT, scheduler=here.scheduler_address, quiet=True)
        assert next(running) == tmp_path / "short"
        threading.Timer(3, here.close).start()
        ended.clear()
        with pytest.raises(SweepError, match="the cluster is gone; start the sweep again"):
            next(running)
        assert ended.wait(60), "the run goes on without anyone to wait for it"


def test_a_run_that_kills_its_workers_is_said_to() -> None:
    error = ValueError("no luck")
    assert reason(None) is None and reason(error) is error
    killed = KilledWorker("key", SimpleNamespace(address="tcp://here:1"), 3)  # type: ignore[arg-type]
    assert "memory" in str(reason(killed))
