"""`python -m clusters COMMAND`: check a cluster, wait for its nodes, or simulate nodes on one machine."""

import sys
from pathlib import Path

from curriculum_ray.extras import exit_saying_what_is_missing

with exit_saying_what_is_missing("clusters", sys.argv[1:], Path(__file__).absolute().parent.parent):
    from clusters.cli import main

    main()
