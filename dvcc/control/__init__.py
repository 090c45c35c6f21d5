"""Stage 2: the control network, its objective and its training; `runtime` runs a trained one without PyTorch."""
