"""How hard each noise level of a data set is: measured, drawn, and the paper's claim checked in words."""

from tuning.difficulty.measurements import MEASURES, DifficultyConfig, Measure, measure
from tuning.difficulty.page import write_report
from tuning.difficulty.verdict import Verdict, judge, summary

__all__ = [
    "MEASURES",
    "DifficultyConfig",
    "Measure",
    "Verdict",
    "judge",
    "measure",
    "summary",
    "write_report",
]
