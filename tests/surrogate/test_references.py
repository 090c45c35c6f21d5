"""The coding order that a surrogate assumes is a valid one, and for x264's usual GOP the one x264 takes."""

import torch

from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.references import coding_order


def order_of(*clips: str):
    return coding_order(torch.tensor([[FRAME_TYPES.index(kind) for kind in clip] for clip in clips]))


def as_frames(order) -> dict[int, tuple[int | None, int | None]]:
    """Frame to the frames before and after it that it is predicted from, in display order."""
    frame, past, future = (column[0].tolist() for column in order)
    return {f: tuple(None if k < 0 else frame[k] for k in (p, n)) for f, p, n in zip(frame, past, future, strict=True)}


def test_a_pyramid_of_b_frames():
    order = order_of("IBBBPBBP")
    assert order.frame[0].tolist() == [0, 4, 2, 1, 3, 7, 5, 6]
    expected = {0: (None, None), 4: (0, None), 2: (0, 4), 1: (0, 2), 3: (2, 4), 7: (4, None), 5: (4, 7), 6: (5, 7)}
    assert as_frames(order) == expected


def test_a_new_gop_leans_on_nothing_before_it():
    references = as_frames(order_of("IPBPIBPP"))
    assert references[4] == (None, None) and references[6] == (4, None)
    assert references[2] == (1, 3) and references[5] == (4, 6)


def test_a_clip_cut_off_in_b_frames_and_a_clip_of_one_type():
    assert as_frames(order_of("IPBB")) == {0: (None, None), 1: (0, None), 2: (1, None), 3: (1, None)}
    assert as_frames(order_of("III")) == {0: (None, None), 1: (None, None), 2: (None, None)}


def test_every_reference_is_coded_before_and_batches_keep_their_own_order():
    order = order_of("IBBBPBBP", "IPPPPBBP")
    places = torch.arange(8)
    assert (order.past < places).all() and (order.future < places).all()
    assert order.frame.sort(1).values.tolist() == [list(range(8))] * 2
    assert order.frame[1].tolist() == [0, 1, 2, 3, 4, 7, 5, 6]
