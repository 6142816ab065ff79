"""Runs the trials of a search in parallel with Ray Tune. No other package imports `ray.tune`."""
