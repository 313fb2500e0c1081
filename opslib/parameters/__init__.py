"""One typed definition of each notebook's parameters.

The same class checks the papermill cell, makes the command line's flags and the controls in JupyterLab.
"""

from opslib.parameters.base import NotebookParameters, Pick, Value
from opslib.parameters.check import (
    SECRET_NAME,
    check_parameters,
    check_rules,
    find_notebook,
    load_parameters,
    parse_parameters,
)
from opslib.parameters.notebooks import (
    NOTEBOOKS,
    ChurnInvestigation,
    DailyWatch,
    FunnelDiagnosis,
    GrowthModel,
    QuarterlyReview,
    StartHere,
    VoiceAndCrisis,
)
from opslib.parameters.views import View, read_view, save_view, write_papermill_command, write_report_command

__all__ = [
    "NOTEBOOKS",
    "SECRET_NAME",
    "ChurnInvestigation",
    "DailyWatch",
    "FunnelDiagnosis",
    "GrowthModel",
    "NotebookParameters",
    "Pick",
    "QuarterlyReview",
    "StartHere",
    "Value",
    "View",
    "VoiceAndCrisis",
    "check_parameters",
    "check_rules",
    "find_notebook",
    "load_parameters",
    "parse_parameters",
    "read_view",
    "save_view",
    "write_papermill_command",
    "write_report_command",
]
