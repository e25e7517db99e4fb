"""The peak memory of one contestant, measured in a process of its own.

Run as ``python -m benchmarks.memory WORKLOAD CONTESTANT``; prints bytes. The measure is the
largest resident set of the process less what it was when everything was imported, so that it
holds model, optimiser, data and whatever the work makes, but not the libraries.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.contest import Unavailable


def peak_bytes() -> int:
    """The largest resident set of this process so far.

    Linux hands the parent's peak down in ``ru_maxrss``; ``VmHWM`` is the process's own.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]
    except (OSError, TypeError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def peak_of(workload: str, contestant: str, threads: int = 1, quick: bool = False) -> int:
    """Bytes that a contestant needs at most, measured in a fresh process.

    Raises:
        Unavailable: it cannot be run here, or its process failed.
    """
    command = [sys.executable, "-m", "benchmarks.memory", workload, contestant]
    done = subprocess.run(
        [*command, str(threads), *(["quick"] if quick else [])],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Unavailable(f"{workload}/{contestant}: {done.stderr.strip()[-300:]}")
    return int(done.stdout.split()[-1])


def main(workload: str, contestant: str, threads: str, *options: str) -> None:
    """Do the work once and print the peak."""
    import torch

    from benchmarks.comparisons import WORKLOADS

    torch.set_num_threads(int(threads))
    if contestant.startswith("minicons"):
        import minicons.scorer  # noqa: F401
    imported = peak_bytes()
    WORKLOADS[workload]("quick" in options).contestants[contestant]()()
    print(peak_bytes() - imported)


if __name__ == "__main__":
    main(*sys.argv[1:])
