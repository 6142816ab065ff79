"""The report of a study: one self-contained HTML file, and its plots."""

from tuning.report.build import build_report

__all__ = ["build_report"]
