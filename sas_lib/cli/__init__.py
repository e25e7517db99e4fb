"""The command line, ``sas``: the library's functions from a shell, a module a command."""

from __future__ import annotations

import sys

import typer

from sas_lib.cli.blimp import blimp
from sas_lib.cli.dimension import dimension
from sas_lib.cli.glue import glue
from sas_lib.cli.heavy import app as heavy
from sas_lib.cli.measure import measure
from sas_lib.cli.onsets import onsets
from sas_lib.cli.parse import parse
from sas_lib.cli.pll import pll
from sas_lib.cli.prepare import prepare
from sas_lib.cli.pretrain import pretrain
from sas_lib.cli.toy import toy_pairs, toy_sentences
from sas_lib.cli.train_parser import train_parser
from sas_lib.cli.uas import uas

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Watch a masked language model learn syntax.",
)
toy = typer.Typer(no_args_is_help=True, help="Sentences and minimal pairs of toy English.")
toy.command("sentences")(toy_sentences)
toy.command("pairs")(toy_pairs)
app.add_typer(toy, name="toy")
app.add_typer(heavy, name="heavy")
COMMANDS = (prepare, train_parser, parse, pretrain, measure, uas, blimp, pll, glue)
for command in (*COMMANDS, dimension, onsets):
    app.command()(command)


def main() -> None:
    """Run the command line; what a user can mend is printed as one line, not a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, RuntimeError, OSError) as error:
        typer.echo(f"sas: {error}", err=True)
        sys.exit(1)
