"""The workers of a sweep: processes on this machine, or those of the reader's own cluster.

All of it is dask.distributed, which hands a lost worker's task to another one. Added here is
what training needs: that every worker sees the folder of the runs and trains one run at a
time, and that a run stops when nobody waits for it any more.

Before you start workers of your own on Linux, set
``DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON="{'MALLOC_TRIM_THRESHOLD_': None}"``. With dask's
default, memory is given back all the time, and a step on the CPU takes twice as long.
"""

from __future__ import annotations

import ctypes
import logging
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from sas_lib.locks import LOCK

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 10  # seconds for a cluster to answer
ONE_RUN = threading.Lock()  # torch's random numbers are one stream a process
# A Ctrl-C in the terminal reaches the workers, too; it is for their parent to stop them.
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
LOCAL = {
    "distributed.nanny.pre-spawn-environ": {},  # MALLOC_TRIM_THRESHOLD_ doubles a step's time
    "distributed.worker.profile.enabled": False,
}


class SweepError(RuntimeError):
    """A sweep that cannot be run, or runs of it that failed; the message names them."""


class CalledOff(BaseException):
    """Nobody waits for the run any more."""


@contextmanager
def cluster(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the cluster at an address, or of one that is gone at the end.

    Raises:
        SweepError: dask is not installed, or does not answer at the address.
    """
    try:
        import dask.config
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise SweepError("sweeps need dask: pip install distributed") from error
    if scheduler:
        try:
            client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SweepError(
                f"no dask scheduler answers at {scheduler}: start one with `dask scheduler`, "
                "which prints its address"
            ) from error
        with client:
            yield client
        return
    with (
        tempfile.TemporaryDirectory(prefix="sas-sweep-") as scratch,
        dask.config.set(LOCAL),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",  # any free port
            local_directory=scratch,
            silence_logs=logging.CRITICAL,
            preload=[DEAF],
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def shared(client: Client, folder: Path) -> Iterator[Path]:
    """A file in the folder, by which a worker can tell that it is the same (``look``).

    Raises:
        SweepError: there is no worker, or one that does not see the folder or takes several
            tasks at a time.
    """
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise SweepError(
            "the cluster has no worker: start one with `dask worker ADDRESS --nthreads 1`"
        ) from None
    for worker, tasks in client.nthreads().items():
        if tasks > 1:
            raise SweepError(
                f"the worker {worker} takes {tasks} tasks at a time: start it with --nthreads 1"
            )
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder.resolve() / f".sweep-{uuid.uuid4()}"
    marker.touch()
    try:
        for worker, error in client.run(look, marker, on_error="return").items():
            if error:
                raise SweepError(f"the worker {worker} cannot be used: {error}")
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def look(marker: Path) -> None:
    """Raises SweepError where the marker of ``shared`` is not seen."""
    if not marker.exists():
        raise SweepError(f"{socket.gethostname()} does not see the folder {marker.parent}")


def reason(error: BaseException | None) -> object:
    """Why a task failed, in words that do without dask's."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return "each worker that took it up was killed; was there memory enough?"
    return error


@contextmanager
def undisturbed(out: Path) -> Iterator[None]:
    """In a worker's task: train the run ``out``, alone in this process, while it is wanted."""
    with ONE_RUN, _unless_called_off():
        if out.exists():  # a worker that was lost may not have let go of it yet
            with suppress(Timeout), FileLock(out / LOCK, timeout=3 * PATIENCE):
                pass
        yield


@contextmanager
def _unless_called_off() -> Iterator[None]:
    """Break the task off once nobody waits for it.

    Dask forgets such a task, as after a Ctrl-C or the end of the parent, but leaves its
    thread alone. Here an exception is raised in it, which to a run is what a kill is.
    """
    from distributed import get_worker

    worker = get_worker()
    key, thread, over = worker.get_current_task(), threading.get_ident(), threading.Event()

    def watch() -> None:
        while not over.wait(1):
            leaving = worker.status.name in ("closing", "closed")
            if leaving or worker.state.tasks[key].state == "cancelled":
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(CalledOff)
                )

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
