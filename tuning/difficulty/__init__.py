"""Measures how hard each noise level of a data set is, plots it, and checks the paper's claim."""

from tuning.difficulty.measurements import MEASURES, DifficultyConfig, Measure, measure
from tuning.difficulty.page import write_report
from tuning.difficulty.verdict import NO_CLAIM, Verdict, judge_all, summary

__all__ = [
    "MEASURES",
    "NO_CLAIM",
    "DifficultyConfig",
    "Measure",
    "Verdict",
    "judge_all",
    "measure",
    "summary",
    "write_report",
]
