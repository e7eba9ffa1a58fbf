"""What users configure and subclass: configs, stoppers, callbacks, searchers, schedulers.

Everything here is light (standard library only) and knows nothing of how trials run, so that
``import milepost.tune`` stays instant and every other room can depend on it.
"""
