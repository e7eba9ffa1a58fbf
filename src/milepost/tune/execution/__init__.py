"""Resources of trials, under Ray's package name."""
