"""Decide, simulate and check where every part of an AI workload runs on a hybrid machine or cluster."""

__version__ = "0.1.0"
