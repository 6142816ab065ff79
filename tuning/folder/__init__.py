"""The folder of a study or a run: its identity, its lock, and its status."""
