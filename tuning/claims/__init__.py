"""Published claims about timesteps, put to the test: a file and a study for each, and the table of what was seen."""
