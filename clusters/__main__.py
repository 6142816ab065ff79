"""`python -m clusters COMMAND`: check a cluster, wait for its nodes, or simulate nodes on one machine."""

from clusters.cli import main

main()
