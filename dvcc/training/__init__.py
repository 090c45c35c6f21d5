"""What every training run shares: the trainer, the loader, sample pictures."""
