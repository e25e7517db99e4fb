"""The heavy notebooks: which there are, and how one is run so that nothing good is lost.

A heavy notebook (``book/heavy/NAME.ipynb``) has a cell tagged ``parameters``, in it
``profile`` and the name of the ``bundle`` that it writes. :func:`run` has papermill execute
it. What comes out, the bundle and the executed copy that the book shows, takes the place
of the former only when the last cell has run.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO

from sas_lib import freshness, results

PROFILES = ("smoke", "cpu", "gpu")
FAILED = ".failed"
PATIENCE = 20  # seconds for an interrupted kernel to end
FOLDER = Path(__file__).resolve().parents[1] / "book" / "heavy"


Log = TextIO | TextIOBase


class HeavyError(RuntimeError):
    """A heavy notebook that is not there, cannot be run as asked, or failed."""


@dataclass(frozen=True)
class Heavy:
    """A heavy notebook."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def title(self) -> str:
        """Its first heading."""
        cells = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        return "".join(cells[0]["source"]).partition("\n")[0].lstrip("# ")

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What the parameters cell says."""
        return freshness.parameters(self.path)

    def bundle(self, profile: str = "cpu") -> str:
        """The bundle that it writes."""
        return bundle_name(self.parameters["bundle"], profile)


def bundle_name(bundle: str, profile: str) -> str:
    """Of a profile: the larger models of ``gpu`` have a bundle of their own."""
    return f"{bundle}_gpu" if profile == "gpu" else bundle


def notebooks(names: Sequence[str] = ()) -> list[Heavy]:
    """The heavy notebooks of these names, or all of them.

    Raises:
        HeavyError: there is no such notebook.
    """
    there = {
        path.stem: Heavy(path)
        for path in sorted(FOLDER.glob("*.ipynb"))
        if not path.stem.endswith((".out", FAILED))
    }
    if unknown := [name for name in names if name not in there]:
        raise HeavyError(f"no heavy notebook {unknown[0]!r}; there are {', '.join(there)}")
    return [there[name] for name in names or there]


def begin(name: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """What a heavy notebook records in its first cell, for ``results.write``.

    The code as it is now, when it is imported, not as it may be when the notebook ends.
    namespace: the notebook's ``globals()``, which hold its parameters as they are in force.

    Raises:
        HeavyError: there is no such profile.
    """
    (heavy,) = notebooks([name])
    in_force = {key: namespace[key] for key in heavy.parameters}
    if in_force["profile"] not in PROFILES:
        raise HeavyError(f"no profile {in_force['profile']!r}; there are {', '.join(PROFILES)}")
    return {
        "notebook": {
            "name": name,
            "code": freshness.notebook_hash(heavy.path),
            "parameters": in_force,
        },
        "code": {
            module: freshness.module_hash(module)
            for module in freshness.modules_used(heavy.path, drawing=False)
        },
        "began": time.time(),
    }


def data_folder() -> Path:
    """The folder of real data.

    Raises:
        HeavyError: ``SAS_DATA`` names none.
    """
    folder = Path(os.environ.get("SAS_DATA") or "")
    if folder == Path() or not folder.is_dir():
        raise HeavyError(
            "this notebook needs real data: set SAS_DATA to a folder that has what "
            "`sas heavy show NAME --json` lists"
        )
    return folder


def run(
    heavy: Heavy,
    profile: str = "cpu",
    given: Mapping[str, Any] | None = None,
    into: str | os.PathLike[str] | None = None,
    log: Log | None = None,
) -> Path:
    """Execute a heavy notebook; returns its executed copy.

    given: parameters in place of those in the notebook. into: a folder for the bundle and
    the copy, in place of the book's own; ``smoke``, which measures nothing, must name one.
    log: what the kernel prints goes there. On ``gpu`` the device is cuda, unless given.
    Runs that the notebook has trained before are taken up. When it fails, or on Ctrl-C, its
    copy as far as it came is kept as ``runs/NAME.failed.ipynb``.

    Raises:
        HeavyError: papermill is not installed, a parameter is not the notebook's, or a cell
            failed.
    """
    on = {"device": "cuda"} if profile == "gpu" and "device" in heavy.parameters else {}
    given = {**on, **(given or {}), "profile": profile}
    if strange := sorted(given.keys() - heavy.parameters.keys()):
        there = ", ".join(heavy.parameters)
        raise HeavyError(f"{heavy.name} has no parameter {strange[0]!r}; it has {there}")
    if profile == "smoke" and into is None:
        raise HeavyError("a smoke run measures nothing: name a folder for what it writes")
    runs = heavy.path.parent / "runs"
    runs.mkdir(exist_ok=True)
    failed = runs / f"{heavy.name}{FAILED}.ipynb"
    with tempfile.TemporaryDirectory(prefix=f".{heavy.name}-", dir=runs) as name:
        made, written = Path(name) / heavy.path.name, Path(name) / "results"
        try:
            with results.writing_to(written):
                _execute(heavy, made, given, log)
        except BaseException as error:
            if made.exists():
                results.put(made, failed)
            if isinstance(error, HeavyError) and failed.exists():
                raise HeavyError(f"{error}; as far as it came: {failed}") from error
            raise
        failed.unlink(missing_ok=True)
        for bundle in sorted(written.iterdir()):
            results.put(bundle, Path(into or results.folder()) / bundle.name)
        tidy(made)
        kind = ".gpu.out.ipynb" if profile == "gpu" else ".out.ipynb"
        return results.put(made, Path(into or heavy.path.parent) / (heavy.name + kind))


def _execute(heavy: Heavy, made: Path, given: Mapping[str, Any], log: Log | None) -> None:
    try:
        import papermill
    except ImportError as error:
        raise HeavyError("papermill is not installed: pip install 'sas-lib[heavy]'") from error
    with _stopped_on_interrupt() as thread:
        task = thread.submit(
            papermill.execute_notebook,
            heavy.path,
            made,
            dict(given),
            kernel_name="python3",
            progress_bar=False,
            cwd=heavy.path.parent,
            stdout_file=log,
            stderr_file=log,
        )
        try:
            task.result()
        except papermill.PapermillExecutionError as error:
            raise HeavyError(
                f"{heavy.name} failed in its cell {error.cell_index + 1}: {error.ename}: "
                f"{error.evalue}"
            ) from error


@contextmanager
def _stopped_on_interrupt() -> Iterator[ThreadPoolExecutor]:
    """A thread to execute in, whose kernel ends on Ctrl-C.

    In the main thread papermill's client would take the signal for itself, and may then wait
    for ever for the kernel that it has stopped.
    """
    import psutil

    before = set(psutil.Process().children())
    with ThreadPoolExecutor(1) as thread:
        try:
            yield thread
        except KeyboardInterrupt:
            kernels = set(psutil.Process().children()) - before
            for kernel in kernels:
                kernel.send_signal(signal.SIGINT)  # as a cell is interrupted: it can tidy up
            _, alive = psutil.wait_procs(kernels, timeout=PATIENCE)
            for process in [p for kernel in alive for p in (*kernel.children(True), kernel)]:
                process.kill()
            raise


def tidy(executed: Path) -> None:
    """Take out of an executed copy what is of its machine alone: paths, progress bars."""
    project = str(FOLDER.parents[1])
    notebook = json.loads(executed.read_text(encoding="utf-8").replace(project, "."))
    notebook["metadata"].pop("widgets", None)
    for key in ("input_path", "output_path"):
        notebook["metadata"]["papermill"][key] = executed.name
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [out for out in cell["outputs"] if not _is_progress(out)]
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    executed.write_text(text + "\n", encoding="utf-8")


def _is_progress(output: Mapping[str, Any]) -> bool:
    widget = "application/vnd.jupyter.widget-view+json"
    return output.get("name") == "stderr" or widget in output.get("data", {})
