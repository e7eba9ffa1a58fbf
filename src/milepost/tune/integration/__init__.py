"""Callbacks that report from the training loops of other libraries.

A library is imported when a callback of it is first used.
"""
