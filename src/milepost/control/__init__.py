"""A run's trials: the pure state machine, and the one loop that does its I/O."""
