"""The experiment's journal: the one truth about a run, and the result files made from it."""
