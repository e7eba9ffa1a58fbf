"""Adapters to other libraries: experiment trackers. A library is imported when it is first used."""
