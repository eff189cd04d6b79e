"""Classifier outputs for an image and its regions, from a few forward passes.

The whole image is classified at the classifier's native square size and in windows that slide over
a larger feature map; the class probabilities are averaged. The same map serves the regions: its
features are averaged under each region's mask and box, without further passes. Crops of the regions
with the highest objectness are classified separately.

Small things have little effect on the whole image's features. Regions and crops therefore raise the
probability that a class appears anywhere in the image. Captions mix the whole image's
probabilities with those of its most confident regions and of the crops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.geometry import Box, Mask
from regard.core.records import Float32Array, Image
from regard.models.lite.classifier import FEATURES, NATIVE_SIDE, STRIDE, Classifier
from regard.models.lite.colours import colour_shares, named_pixels
from regard.photos.masks import decode_samples

_LARGE_SIDE = 512
_WINDOW = 7  # positions of the large map: 224 pixels, close to the native side
_WINDOW_STEP = 2
# A view with softer raw probabilities needs a lower temperature to be comparable with the others.
_NATIVE_TEMPERATURE = 0.6
_MASK_TEMPERATURE = 1.2
_SALIENT_SHARE = 0.3  # weight of the most confident regions in `salient`
_CLOSER_LOOKS = 3
_CLOSER_SHARE = 0.25  # weight of the crops in `salient`
_CLOSER_SIDE = 160  # side in pixels of a square with the area of a resized crop
_ANYWHERE_SHARE = 0.3  # weight of regions and crops in `anywhere`
_CLOSER_MARGIN = 0.125  # share of a box's size added on each side
_MASK_SAMPLES = 128  # along the side of a square with the area of a region's box
_NARROWEST, _WIDEST = 2, 12  # positions along one side of a crop's map

PARAMETERS: Mapping[str, float] = {
    "large_side": _LARGE_SIDE,
    "window": _WINDOW,
    "window_step": _WINDOW_STEP,
    "native_temperature": _NATIVE_TEMPERATURE,
    "mask_temperature": _MASK_TEMPERATURE,
    "salient_share": _SALIENT_SHARE,
    "closer_looks": _CLOSER_LOOKS,
    "closer_share": _CLOSER_SHARE,
    "closer_side": _CLOSER_SIDE,
    "anywhere_share": _ANYWHERE_SHARE,
    "closer_margin": _CLOSER_MARGIN,
    "mask_samples": _MASK_SAMPLES,
}
"""Every value that affects the views; part of the pipeline's fingerprint."""


@dataclass(frozen=True, slots=True)
class Views:
    """Features, class probabilities and colour shares of one image and its r regions.

    `salient` mixes `probabilities` with those of the most confident regions and of the crops.
    `anywhere` scores each class's presence somewhere in the image. Without objectness there are no
    crops, and `anywhere` equals `probabilities`.
    Probabilities and colour shares sum to 1, except `anywhere`.
    """

    features: Float32Array  # (1280,)
    probabilities: Float32Array  # (1000,)
    anywhere: Float32Array  # (1000,)
    salient: Float32Array  # (1000,)
    colours: Float32Array  # (11,)
    region_features: Float32Array  # (r, 1280)
    region_probabilities: Float32Array  # (r, 1000)
    region_colours: Float32Array  # (r, 11)


def look(
    classifier: Classifier,
    image: Image,
    boxes: Sequence[Box],
    masks: Sequence[Mask | None],
    objectness: Sequence[float] | None = None,
) -> Views:
    """Compute the views of one image and its r regions; a mask of None means the whole box.

    Crops are encoded for the regions of highest `objectness` (r,) in [0, 1]; without it, none.
    """
    native = classifier.feature_map(image, NATIVE_SIDE, NATIVE_SIDE).mean(axis=(1, 2))  # (1280,)
    large = classifier.feature_map(image, *_large_sides(image))  # (1280, gh, gw)
    named = named_pixels(image)
    grids = (large.shape[1:], named.shape)
    large_weights, pixel_weights = _region_weights(image, boxes, masks, grids)
    under_masks, under_boxes = (_pooled(large, weights) for weights in large_weights)  # (r, 1280)
    scores = np.clip(np.asarray([] if objectness is None else objectness, np.float32), 0, 1)
    best = np.argsort(-scores, kind="stable")[:_CLOSER_LOOKS]
    closer = [_closer_features(classifier, image, boxes[region]) for region in best]
    parts = [
        native[None],
        _windows(large),
        under_masks,
        under_boxes,
        np.reshape(closer, (-1, FEATURES)),
    ]
    # One product for all rows reads the classifier's weights once.
    logits = classifier.logits(np.vstack(parts))
    of_native, of_windows, of_masks, of_boxes, of_crops = np.split(
        logits, np.cumsum([len(part) for part in parts[:-1]])
    )
    whole = (softmax(of_native[0] / _NATIVE_TEMPERATURE) + softmax(of_windows).mean(axis=0)) / (
        np.float32(2)
    )
    region_probabilities = (softmax(of_masks / _MASK_TEMPERATURE) + softmax(of_boxes)) / (
        np.float32(2)
    )
    anywhere, crops = whole, None
    if len(best):
        crops = _Crops(softmax(of_crops), scores[best])
        anywhere = _anywhere(whole, region_probabilities, scores, crops)
    return Views(
        features=(native + 2 * large.mean(axis=(1, 2))) / np.float32(3),
        probabilities=whole,
        anywhere=anywhere,
        salient=_salient(whole, region_probabilities, crops),
        colours=colour_shares(named, np.ones((1, named.size), dtype=np.float32))[0],
        region_features=under_masks,
        region_probabilities=region_probabilities,
        region_colours=colour_shares(named, pixel_weights[0]),
    )


def softmax(logits: Float32Array) -> Float32Array:
    """Softmax over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)


def _large_sides(image: Image) -> tuple[int, int]:
    """Width and height, multiples of the stride, that best keep the image's aspect ratio."""
    scale = _LARGE_SIDE / max(image.width, image.height) / STRIDE
    width, height = (max(round(side * scale), 1) * STRIDE for side in (image.width, image.height))
    return width, height


def _windows(features: Float32Array) -> Float32Array:
    """Mean features of sliding windows: (1280, gh, gw) → (n, 1280)."""
    _, rows, columns = features.shape
    height, width = min(_WINDOW, rows), min(_WINDOW, columns)
    tops = range(0, rows - height + 1, _WINDOW_STEP)
    lefts = range(0, columns - width + 1, _WINDOW_STEP)
    weights = np.zeros((len(tops), len(lefts), rows, columns), dtype=np.float32)
    for row, y in enumerate(tops):
        for column, x in enumerate(lefts):
            weights[row, column, y : y + height, x : x + width] = 1 / (height * width)
    return _pooled(features, weights.reshape(-1, rows * columns))


@dataclass(frozen=True, slots=True)
class _Crops:
    """Class probabilities (k, 1000) of crops of k regions, and the regions' objectness (k,)."""

    probabilities: Float32Array
    objectness: Float32Array


def _closer_features(classifier: Classifier, image: Image, box: Box) -> Float32Array:
    """Mean features of a crop, (1280,)."""
    part = _closer(image, box)
    features: Float32Array = classifier.feature_map(part, *_closer_sides(part)).mean(axis=(1, 2))
    return features


def _salient(whole: Float32Array, regions: Float32Array, crops: _Crops | None) -> Float32Array:
    """Mix the image's probabilities (1000,) with the regions' (r, 1000) by confidence, and with
    those of crops by objectness."""
    if not len(regions):
        return whole
    confidence = regions.max(axis=1)  # (r,)
    mean = confidence @ regions / confidence.sum()  # (1000,)
    mixed = (1 - _SALIENT_SHARE) * whole + _SALIENT_SHARE * mean
    if crops is not None and crops.objectness.any():
        closer = crops.objectness @ crops.probabilities / crops.objectness.sum()
        mixed = (1 - _CLOSER_SHARE) * mixed + _CLOSER_SHARE * closer
    return np.asarray(mixed, dtype=np.float32)


def _anywhere(
    whole: Float32Array, regions: Float32Array, objectness: Float32Array, crops: _Crops
) -> Float32Array:
    """Mix the image's probabilities (1000,) with the maximum over its regions' (r, 1000) and the
    crops', each scaled by the region's objectness (r,)."""
    evidence = np.vstack(
        [objectness[:, None] * regions, crops.objectness[:, None] * crops.probabilities]
    ).max(axis=0)
    share = np.float32(_ANYWHERE_SHARE)
    return np.asarray((1 - share) * whole + share * evidence, dtype=np.float32)


def _closer(image: Image, box: Box) -> Image:
    """Crop a box with a margin; a box outside the image gives the whole image."""
    across, down = int(box.width * _CLOSER_MARGIN), int(box.height * _CLOSER_MARGIN)
    widened = Box(box.x - across, box.y - down, box.width + 2 * across, box.height + 2 * down)
    inside = widened.clipped(image.width, image.height) or Box(0, 0, image.width, image.height)
    return Image(image.pixels[inside.y : inside.bottom, inside.x : inside.right])


def _closer_sides(part: Image) -> tuple[int, int]:
    """Width and height, multiples of the stride, near the crop's aspect ratio and a fixed area."""
    scale = _CLOSER_SIDE / math.sqrt(part.width * part.height) / STRIDE
    width, height = (
        min(max(round(side * scale), _NARROWEST), _WIDEST) * STRIDE
        for side in (part.width, part.height)
    )
    return width, height


def _pooled(features: Float32Array, weights: Float32Array) -> Float32Array:
    """Weighted sums of a map's positions: (1280, gh, gw), (n, gh * gw) → (n, 1280)."""
    sums: Float32Array = weights @ features.reshape(FEATURES, -1).T
    return sums


def _region_weights(
    image: Image,
    boxes: Sequence[Box],
    masks: Sequence[Mask | None],
    grids: Sequence[tuple[int, ...]],
) -> list[tuple[Float32Array, Float32Array]]:
    """Weights of the cells of each grid (rows, columns) over the image for each mask and each box.

    For each grid, two arrays (r, rows * columns) whose rows sum to 1. A cell's weight is the share
    of it that the region covers: exactly for a box, and for a mask by a sample of its pixels. A
    mask of None, or without a pixel inside its box, counts as the box; a box outside the image
    counts as the image.
    """
    coverages = [
        (_coverage(image.height, rows), _coverage(image.width, columns)) for rows, columns in grids
    ]
    weights = [np.zeros((2, len(boxes), rows * columns), np.float32) for rows, columns in grids]
    for region, (box, mask) in enumerate(zip(boxes, masks, strict=True)):
        inside = box.clipped(image.width, image.height) or Box(0, 0, image.width, image.height)
        y, x = slice(inside.y, inside.bottom), slice(inside.x, inside.right)
        for (down, across), (_, of_box) in zip(coverages, weights, strict=True):
            of_box[region] = np.outer(down[:, y].sum(axis=1), across[:, x].sum(axis=1)).ravel()
        if mask is None:
            continue
        step = max(1, round(math.sqrt(inside.width * inside.height) / _MASK_SAMPLES))
        y, x = slice(inside.y, inside.bottom, step), slice(inside.x, inside.right, step)
        sample = decode_samples(mask, y, x).astype(np.float32)
        for (down, across), (of_mask, _) in zip(coverages, weights, strict=True):
            # numpy multiplies arrays with gaps without BLAS.
            rows, columns = np.ascontiguousarray(down[:, y]), np.ascontiguousarray(across[:, x])
            of_mask[region] = (rows @ sample @ columns.T).ravel()
    result = []
    for of_mask, of_box in weights:
        either = np.where(of_mask.any(axis=1, keepdims=True), of_mask, of_box)
        result.append(
            (either / either.sum(axis=1, keepdims=True), of_box / of_box.sum(axis=1, keepdims=True))
        )
    return result


def _coverage(pixels: int, positions: int) -> Float32Array:
    """Share of each pixel that each of `positions` equal cells covers, (positions, pixels)."""
    edges = np.arange(positions + 1) * (pixels / positions)
    starts = np.arange(pixels)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return np.asarray(np.maximum(overlap, 0.0), dtype=np.float32)
