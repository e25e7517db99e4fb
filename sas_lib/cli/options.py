"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Where to write.")]
Seed = Annotated[int, typer.Option(help="Seed: the same seed gives the same output.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, ...")]
Model = Annotated[str, typer.Argument(help="A folder, or a name on the Hugging Face hub.")]
