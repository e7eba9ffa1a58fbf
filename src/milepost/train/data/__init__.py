"""Datasets of training workers: what trainers are given, and each worker's share of it."""
