"""Coded against uncoded, region by region, and one rate controller against another on a video of one's own."""
