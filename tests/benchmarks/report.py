"""What was measured, as a table to read, as JSON, and as a bundle for the book."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.comparisons import Report, Result, described
from sas_lib import results
from sas_lib.freshness import module_hash
from sas_lib.model import training_dtype

BUNDLE = "benchmarks"
MODULES = (
    "batches corpus learner minimal_pairs model parallel regularizer settings throughput uas"
).split()
PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "minicons", "numpy")


def machine(threads: int) -> dict[str, Any]:
    """The machine and what ran on it."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "training_dtype": str(training_dtype(torch.device("cpu"))).removeprefix("torch."),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in PACKAGES},
    }


def cpu_model() -> str:
    """What the machine calls its processor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    family = re.search(r"^cpu family\s*:\s*(.+)$", text, re.MULTILINE)
    return (name[1] if name else platform.machine()) + (
        f", family {family[1]}" if family else ""
    )


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- to read --------------------------------------------------------------------------


def table(report: Report, about: dict[str, Any]) -> str:
    """The results as a table, with the machine above and what was left out below."""
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} thread(s); "
        f"training in {about['training_dtype']}, measuring in float32",
        "",
        f"{'name':<17}{'what':<31}{'ratio':>7}  {'95% interval':<15}{'bar':<11}{'':<14}"
        f"{'MB, ours':>9}{'peer':>7}  against",
    ]
    lines += [_line(result) for result in report.results]
    lines += [f"{name:<17}left out: {reason}" for name, reason in report.skipped.items()]
    return "\n".join(lines)


def _line(r: Result) -> str:
    c, found = r.comparison, r.ratio
    interval = "-" if c.kind == "memory" else f"{found.low:.2f} to {found.high:.2f}"
    ours, peer = (
        f"{r.peaks[name] / 1e6:,.0f}" if name in r.peaks else "-" for name in (c.ours, r.peer)
    )
    bar = "" if c.bar is None else f"{'>=' if c.kind == 'speedup' else '<='} {c.bar:.2f}"
    return (
        f"{c.name:<17}{c.title:<31}{found.value:>7.2f}  {interval:<15}{bar:<11}"
        f"{verdict(r):<14}{ours:>9}{peer:>7}  {c.against}"
    )


def verdict(r: Result) -> str:
    """Met or missed, and by how much."""
    if r.met is None or r.margin is None:
        return ""
    return f"{'met' if r.met else 'MISSED'} by {abs(r.margin):.0%}"


# --- for machines ---------------------------------------------------------------------


def as_json(report: Report, about: dict[str, Any]) -> dict[str, Any]:
    """Keys ``machine``, ``comparisons`` (by name) and ``skipped``."""
    facts = described(report)
    for r in report.results:
        facts[r.comparison.name] |= {
            "ratio": r.ratio.value,
            "interval": None if r.comparison.kind == "memory" else [r.ratio.low, r.ratio.high],
            "met": r.met,
            "margin": r.margin,
            "per_second": r.rates,
            "peak_bytes": r.peaks,
        }
    return {"machine": about, "comparisons": facts, "skipped": report.skipped}


def tidy(report: Report) -> pd.DataFrame:
    """One value a row. run: the comparison, or the workload for the seconds of a round;
    step: the round; detail: the contestant."""
    rows: list[dict[str, Any]] = []
    for r in report.results:
        name = r.comparison.name
        values = {"ratio": r.ratio.value}
        if r.comparison.kind != "memory":
            values |= {"ratio_low": r.ratio.low, "ratio_high": r.ratio.high}
        if r.margin is not None:
            values["margin"] = r.margin
        rows += [{"run": name, "metric": m, "value": v} for m, v in values.items()]
        for metric, of_contestant in (("per_second", r.rates), ("peak_bytes", r.peaks)):
            rows += [
                {"run": name, "metric": metric, "detail": who, "value": float(value)}
                for who, value in of_contestant.items()
            ]
    for workload, seconds in report.seconds.items():
        rows += [
            {"run": workload, "metric": "seconds", "detail": who, "step": step, "value": value}
            for who, rounds in seconds.items()
            for step, value in enumerate(rounds)
        ]
    frame = pd.DataFrame(rows).reindex(columns=results.COLUMNS)
    whole = {"seed": "int16", "step": "int32", "tokens": "int64"}
    return frame.fillna(dict.fromkeys(whole, 0)).astype(whole)


def write_bundle(report: Report, about: dict[str, Any], rounds: int, seconds: float) -> Path:
    """Write the bundle that the appendix on speed reads."""
    shapes = {
        name: {"title": w.title, "unit": w.unit, "units_a_round": w.units, **w.shape}
        for name, w in report.workloads.items()
    }
    modules = [f"sas_lib.{name}" for name in MODULES]
    return results.write(
        BUNDLE,
        tidy(report),
        {"code": {name: module_hash(name) for name in modules}, "began": time.time() - seconds},
        {
            "machine": about,
            "rounds": rounds,
            "comparisons": described(report),
            "workloads": shapes,
            "skipped": report.skipped,
        },
        made_by="make bench",
        note="Ratios of one run, contestants in turn; peak memory in processes of their own.",
    )
