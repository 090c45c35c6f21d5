"""Videos of any length, frame by frame: reading, coding under a control, writing."""
