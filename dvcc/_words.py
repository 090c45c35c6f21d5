"""Words for numbers."""


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a number of things, in words."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def direction(higher_is_better: bool) -> str:
    """Return the direction of a metric, in words."""
    return f"{'higher' if higher_is_better else 'lower'} is better"


def decibels(psnr: float) -> str:
    """Return a PSNR with two places, and a dash where nothing defines it."""
    return "-" if psnr != psnr else f"{psnr:.2f}"
