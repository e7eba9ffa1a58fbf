"""What a run hands back: results of trials, how the best is chosen, and how rows become frames.

Everything here works alike on a run that has just ended and on an experiment opened from its
directory: without the trainable, and without unpickling anything unless it is asked for.
"""
