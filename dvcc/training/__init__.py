"""The two stages of the method, and the student's distillation, on Lightning's Trainer."""
