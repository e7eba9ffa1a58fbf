"""Engines place worker processes and tell of their death; channels carry the messages."""
