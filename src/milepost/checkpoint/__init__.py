"""Checkpoints: the handle users hold, the manifest, commit, verification, retention, collection."""
