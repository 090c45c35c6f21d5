"""Words for numbers."""


def counted(count: int, one: str, several: str = "") -> str:
    """A number of things, in words."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def direction(higher_is_better: bool) -> str:
    """Of a metric, in words."""
    return f"{'higher' if higher_is_better else 'lower'} is better"
