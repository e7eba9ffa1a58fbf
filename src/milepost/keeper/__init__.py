"""The keeper: the process that makes captured checkpoints durable.

One keeper runs per driver and node. It commits what workers captured even when the worker or the
driver has died, deletes what retention dropped, and ends when its owner ends.
"""
