"""``sas heavy``: list, run and check the heavy notebooks and what they wrote."""

from __future__ import annotations

import io
import itertools
import json
import sys
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sas_lib.cli.options import Json

if TYPE_CHECKING:
    from sas_lib.heavy import Heavy

app = typer.Typer(
    no_args_is_help=True,
    help="The heavy notebooks: run them, and see which results are fresh.",
)
Names = Annotated[list[str] | None, typer.Argument(help="Notebooks, by name. Default: all.")]


class Profile(StrEnum):
    smoke = "smoke"
    cpu = "cpu"
    gpu = "gpu"


@app.command("list")
def list_notebooks(as_json: Json = False) -> None:
    """List the heavy notebooks, their bundles, and how these stand.

    \b
    Example:
    sas heavy list
    """
    from sas_lib import heavy

    rows = [_row(notebook) for notebook in heavy.notebooks()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    typer.echo(f"{'notebook':<16}{'bundle':<16}{'':<9}{'made on':<12}{'took':<9}title")
    for row in rows:
        took = "" if row["seconds"] is None else _clock(row["seconds"])
        typer.echo(
            f"{row['name']:<16}{row['bundle']:<16}{row['state']:<9}{row['date'] or '':<12}"
            f"{took:<9}{row['title']}"
        )


class _Run(TyperCommand):
    """A command whose -p takes a key and a value, as papermill's does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined, rest = [], iter(args)
        for arg in rest:
            joined.append(arg)
            if arg in ("-p", "--parameter"):
                pair = list(itertools.islice(rest, 2))
                joined.append("=".join(pair) if pair else "")
        return super().parse_args(ctx, joined)


@app.command(cls=_Run)
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Notebooks, by name. Default: those with results not fresh."),
    ] = None,
    profile: Annotated[
        Profile,
        typer.Option(
            "--profile",
            "-P",
            help="smoke: seconds, shows that it works; cpu: hours on two cores; gpu: larger "
            "models, on a GPU.",
        ),
    ] = Profile.cpu,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="KEY VALUE",
            help="In place of the notebook's; the value as JSON. May be repeated.",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side. Default: the notebook's.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of your dask scheduler, as tcp://host:8786, to train on."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results and copies. Default: the book's; of smoke, a folder in "
            "runs/smoke."
        ),
    ] = None,
) -> None:
    """Run heavy notebooks; their results take the place of the former when all went well.

    Runs that were trained before are taken up: after Ctrl-C or a failure, the same command
    goes on. What the kernel prints is in runs/NAME.log beside the notebooks.

    \b
    Examples:
    sas heavy run
    sas heavy run toy_runs --profile smoke
    sas heavy run toy_runs toy_promote --jobs 4
    sas heavy run toy_promote -p seeds '[0, 1]' -p note 'two seeds' --into trial
    """
    from sas_lib import heavy, results

    given = _parameters(parameter or [])
    if profile is Profile.smoke and into is None:
        into = heavy.FOLDER / "runs" / "smoke" / "results"
    chosen = heavy.notebooks(names or ())
    if not names:
        states = {notebook.name: _row(notebook, profile.value) for notebook in chosen}
        chosen = [n for n in chosen if into or states[n.name]["state"] != "fresh"]
    failed = []
    for number, notebook in enumerate(chosen, 1):
        wanted = {"jobs": jobs, "scheduler": scheduler}
        extra = {k: v for k, v in wanted.items() if v is not None and k in notebook.parameters}
        path = heavy.FOLDER / "runs" / f"{notebook.name}.log"
        typer.echo(f"[{number}/{len(chosen)}] {notebook.name}, log in {path}", err=True)
        path.parent.mkdir(exist_ok=True)
        with open(path, "a", encoding="utf-8") as log:
            try:
                copy = heavy.run(notebook, profile.value, given | extra, into, _Both(log))
            except heavy.HeavyError as error:  # the others do not depend on it
                failed.append(str(error))
                continue
        typer.echo(Path(into or results.folder()) / notebook.bundle(profile.value))
        typer.echo(copy)
    if not chosen:
        typer.echo("all results are fresh", err=True)
    if failed:
        raise heavy.HeavyError("; ".join(failed))


@app.command()
def check(
    names: Names = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if any result is not fresh.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say which results are fresh, stale (and because of what) or missing.

    \b
    Example:
    sas heavy check --strict
    """
    from sas_lib import heavy

    rows = [_row(notebook) for notebook in heavy.notebooks(names or ())]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        for row in rows:
            typer.echo(
                f"{row['bundle']:<16}{row['state']:<9}{'; '.join(row['reasons'])}".rstrip()
            )
    if strict and any(row["state"] != "fresh" for row in rows):
        raise typer.Exit(1)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A bundle, or the notebook that makes it.")],
    as_json: Json = False,
) -> None:
    """Show how, when and from what a bundle was made.

    \b
    Example:
    sas heavy show toy_base
    """
    from sas_lib import freshness, heavy, results

    made_by = {notebook.name: notebook.bundle() for notebook in heavy.notebooks()}
    name = made_by.get(name, name)
    manifest = results.manifest(name)
    if as_json:
        typer.echo(json.dumps(manifest, indent=1))
        return
    standing = freshness.check(name)
    typer.echo(f"{name}: {standing.state} {'; '.join(standing.reasons)}".rstrip())
    notebook = manifest.get("notebook") or {}
    facts = {
        "made on": manifest["date"],
        "by": notebook.get("name", "-"),
        "with": _listed(notebook.get("parameters", {})),
        "took": _took(manifest),
        "on": _listed(manifest["device"]),
        "seeds": ", ".join(map(str, manifest["seeds"])),
        "packages": _listed(manifest["packages"]),
        "data": ", ".join(manifest["data"]) or "generated",
        "note": manifest["note"] or "-",
    }
    for key, value in facts.items():
        typer.echo(f"  {key:<10}{value}")


def _row(notebook: Heavy, profile: str = "cpu") -> dict[str, Any]:
    """A notebook, its bundle, and how this stands."""
    from sas_lib import freshness, results

    row: dict[str, Any] = {
        "name": notebook.name,
        "title": notebook.title,
        "bundle": notebook.bundle(profile),
        "state": "missing",
        "reasons": [],
        "date": None,
        "seconds": None,
    }
    if row["bundle"] in results.names():
        manifest = results.manifest(row["bundle"])
        standing = freshness.check(row["bundle"])
        row |= {"state": standing.state, "reasons": standing.reasons}
        row |= {"date": manifest["date"], "seconds": manifest["wall_seconds"]}
    return row


_AS_JSON = {"True": "true", "False": "false", "None": "null"}  # as the notebooks write them


def _parameters(given: list[str]) -> dict[str, Any]:
    found = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals:
            raise typer.BadParameter("-p takes a KEY and a VALUE", param_hint="--parameter")
        try:
            found[key] = json.loads(_AS_JSON.get(value, value))
        except ValueError:
            found[key] = value  # a bare word is a string
    return found


def _listed(facts: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def _took(manifest: dict[str, Any]) -> str:
    trained = manifest.get("training_seconds")
    before = f", after {_clock(trained)} of training" if trained else ""
    return _clock(manifest["wall_seconds"]) + before


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class _Both(io.TextIOBase):
    """A text stream that goes to a file and to standard error."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def write(self, text: str) -> int:
        sys.stderr.write(text)
        return self.file.write(text)

    def flush(self) -> None:
        sys.stderr.flush()
        self.file.flush()
