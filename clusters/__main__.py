"""`python -m clusters COMMAND`: check a cluster, wait for its nodes, or simulate nodes on one machine."""

from curriculum_ray.extras import exit_naming_the_extra

with exit_naming_the_extra():
    from clusters.cli import main

    main()
