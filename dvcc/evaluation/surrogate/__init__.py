"""Compare a surrogate's predictions with real encodes."""
