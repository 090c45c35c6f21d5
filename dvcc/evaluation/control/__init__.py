"""Compare rate controllers on real encodes."""
