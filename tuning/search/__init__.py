"""How a study is searched: Optuna chooses, Ray Tune runs the trials."""
