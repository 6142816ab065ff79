"""Ray Tune's part in a search: it runs the trials side by side. Nothing outside of here imports `ray.tune`."""
