"""The report of a study: one self-contained HTML file, and its plots."""

from tuning.report.build import build_report
from tuning.report.facts import StudyFacts

__all__ = ["StudyFacts", "build_report"]
