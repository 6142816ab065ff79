"""What `rehearse.py` runs: servers, a cluster of process trees, the stages, and the table."""
