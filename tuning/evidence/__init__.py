"""What the records of a study say: arms, paired differences, speed-up, verdicts."""
