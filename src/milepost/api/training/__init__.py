"""What users configure and subclass for training with several workers."""
