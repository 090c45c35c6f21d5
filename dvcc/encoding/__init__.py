"""Encode whole videos and live streams under a control."""
