"""Clips to train and test on, and the cache of their real encodes."""
