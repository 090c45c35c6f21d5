"""How much of a detector's answer is lost, and where: once for what judges and learns (torch) and what encodes (numpy)."""

from __future__ import annotations

from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Boxes, intersection_over_union

GRID = 88
"""Rows and columns of the map: finer than macroblocks up to 1408 pixels, and four times FastestDet's 22."""

_DOUBT = 0.4  # a box below this score does no harm as a false alarm
_FALSE_ALARM = 0.5  # what a false alarm of score 1 costs, in lost objects


def lost_objects(candidates: Any, reference: Any, objects: Boxes, xp: Any) -> Any:
    """(88, 88), summing to the lost objects and false alarms of one picture, each spread over its box.

    candidates, reference: (M, 4 + K) and (N, 4 + K), of the coded picture and of the uncoded one, whose `objects` count. All are
    arrays of numpy or torch (`xp`); differentiable in the candidates.

    What is left of an object is the best score x IoU that a candidate of its class has with it, relative to the reference's
    own. A false alarm is a candidate that covers no object, with a score above that of the reference's candidates there.
    """
    corners, scores = candidates[:, :4], candidates[:, 4:]
    truth = xp.asarray(objects.corners, dtype=corners.dtype)
    degradation = xp.zeros((GRID, GRID), dtype=corners.dtype, device=corners.device)
    if len(truth):
        coded_score = xp.amax(scores[:, objects.labels].T * intersection_over_union(truth, corners, xp), 1)
        uncoded_score = xp.amax(reference[:, 4 + objects.labels].T * intersection_over_union(truth, reference[:, :4], xp), 1)
        degradation = degradation + _spread((1 - coded_score / uncoded_score).clip(0), truth, xp)
    answered, referred = _not_doubtful(candidates, xp), _not_doubtful(reference, xp)
    alarm = xp.amax(answered[:, 4:], 1) - _expected(answered[:, :4], referred, xp)
    covered = xp.amax(intersection_over_union(answered[:, :4], truth, xp), 1) if len(truth) else xp.zeros_like(alarm)
    return degradation + _spread(_FALSE_ALARM * alarm.clip(0) * (1 - covered), answered[:, :4], xp)


def _not_doubtful(candidates: Any, xp: Any) -> Any:
    """Those that could be a false alarm."""
    corners, scores = candidates[:, :4], candidates[:, 4:]
    return candidates[(xp.amax(scores, 1) > _DOUBT) & (corners[:, 2:] > corners[:, :2]).all(1)]


def _expected(corners: Any, reference: Any, xp: Any) -> Any:
    """Return the surest score that the candidates of the `reference` have at boxes (N, 4): (N,).

    Those that overlap by less than half count by how far they do. It is at least the score of doubt.
    """
    if not len(reference):
        return xp.full((len(corners),), _DOUBT, dtype=corners.dtype, device=corners.device)
    there = (2 * intersection_over_union(corners, reference[:, :4], xp)).clip(max=1)
    return xp.amax(there * xp.amax(reference[:, 4:], 1), 1).clip(_DOUBT)


def _spread(amounts: Any, corners: Any, xp: Any) -> Any:
    """(88, 88): every amount (N,) spread evenly over its box (N, 4); the sum is kept. Boxes get no gradient."""
    corners = corners.detach() if hasattr(corners, "detach") else corners
    edges = xp.asarray(np.linspace(0, 1, GRID + 1), dtype=corners.dtype, device=corners.device)
    covers = []
    for low, high in ((1, 3), (0, 2)):
        ends = xp.maximum(corners[:, high, None], corners[:, low, None] + 1e-3)
        cover = (xp.minimum(ends, edges[1:]) - xp.maximum(corners[:, low, None], edges[:-1])).clip(0)
        covers.append(cover / cover.sum(1)[:, None].clip(1e-9))
    down, across = covers
    return (amounts[:, None] * down).T @ across
