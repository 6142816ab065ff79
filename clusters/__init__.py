"""Getting Ray onto GPUs: what a study or a training run needs from a cluster."""
