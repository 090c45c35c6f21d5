"""What is read ahead is what is read; nothing is left running."""

import threading

import pytest

from dvcc.media.prefetch import prefetch


def test_the_items_and_the_error_come_through_in_order():
    def items():
        yield from range(50)
        raise ValueError("broken there")

    seen = []
    with pytest.raises(ValueError, match="broken there"):
        seen.extend(prefetch(items()))  # extend keeps nothing of a source that raises
    for item in (prepared := prefetch(iter(range(50)))):
        seen.append(item)
    assert seen[-50:] == list(range(50)) and next(prepared, None) is None


def test_only_a_few_are_made_before_they_are_asked_for():
    made = []
    prepared = prefetch(made.append(i) or i for i in range(1000))
    assert next(prepared) == 0
    before = threading.active_count()
    prepared.close()
    assert len(made) < 20 and threading.active_count() == before - 1
