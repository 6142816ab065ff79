"""The search of a study: Optuna chooses the trials, Ray Tune runs them."""
