"""Measure what compression costs a network."""
