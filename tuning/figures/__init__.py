"""Figures and pages: one theme for all pictures, light and dark."""
