"""The folder of a study or a run: whose it is, who holds it, and how far it is."""
