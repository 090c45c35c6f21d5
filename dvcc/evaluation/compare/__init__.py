"""Compare two-pass ABR with a control on one stretch of video."""
