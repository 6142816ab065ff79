"""Run Ray on GPU clusters: what a study or a training run needs from a cluster."""
