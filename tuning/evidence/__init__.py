"""Evidence from the records of a study: arms, paired differences, speed-up, verdicts."""
