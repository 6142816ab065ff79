"""`python -m clusters COMMAND`: check a cluster, wait for its nodes, or try several nodes on one machine."""

from clusters.cli import main

main()
