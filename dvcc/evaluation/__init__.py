"""Evaluations on real encodes, with confidence intervals."""
