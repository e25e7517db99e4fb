"""Run the command line as ``python -m sas_lib``."""

from sas_lib.cli import main

main()
