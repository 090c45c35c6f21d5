"""The Perspective paper's benchmark on what a machine without downloads has: its claims, one by one."""
