"""Measure coded streams: bits, QPs, and quality against a reference."""
