"""Widgets for a live kernel: parse a sentence of your own, train under a schedule of your own.

They need the package ipywidgets (the extra ``book``) and a front end at which someone sits. A
program that executes a notebook, as when the book is built, gets a sentence in their place.
"""

from sas_lib.widgets.explorer import ParseExplorer, parse_explorer
from sas_lib.widgets.trainer import ScheduleTrainer, schedule_trainer

__all__ = ["ParseExplorer", "ScheduleTrainer", "parse_explorer", "schedule_trainer"]
