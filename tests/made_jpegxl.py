"""Writes JPEG XL files in every form that libjxl knows, by the copy of it in imagecodecs.

imagecodecs alone writes neither profiles nor orientations nor metadata.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

RGB, GREY = 0, 1
D65, P3 = 1, 11
SRGB_PRIMARIES, CUSTOM, BT2100 = 1, 2, 9
LINEAR, SRGB, PQ, HLG = 8, 13, 16, 18
_GAMMA = 65535
_FLOAT, _UINT8, _UINT16 = 0, 2, 3
_EFFORT = 0
_NEED_MORE_OUTPUT = 2


class _BasicInfo(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("container", "width", "height", "bits", "exponent")),
        ("intensity", ctypes.c_float),
        ("min_nits", ctypes.c_float),
        ("relative", ctypes.c_int),
        ("linear_below", ctypes.c_float),
        *((name, ctypes.c_int) for name in ("original", "preview", "animation", "orientation")),
        *((name, ctypes.c_uint32) for name in ("colours", "extra", "alpha_bits", "alpha_exponent")),
        ("premultiplied", ctypes.c_int),
        ("preview_size", ctypes.c_uint32 * 2),
        ("ticks", ctypes.c_uint32 * 2),
        ("loops", ctypes.c_uint32),
        ("timecodes", ctypes.c_int),
        ("intrinsic", ctypes.c_uint32 * 2),
        ("padding", ctypes.c_uint8 * 100),
    )


class Encoding(ctypes.Structure):
    """A colour encoding that needs no profile."""

    _fields_ = (
        ("space", ctypes.c_int),
        ("white", ctypes.c_int),
        ("white_xy", ctypes.c_double * 2),
        ("primaries", ctypes.c_int),
        ("primaries_xy", ctypes.c_double * 6),
        ("transfer", ctypes.c_int),
        ("gamma", ctypes.c_double),
        ("intent", ctypes.c_int),
    )


def encoding(
    space: int = RGB,
    primaries: int | Sequence[float] = SRGB_PRIMARIES,
    transfer: int = SRGB,
    gamma: float = 0.0,
) -> Encoding:
    """A colour encoding relative to D65; primaries are x and y of red, green and blue."""
    made = Encoding(space=space, white=D65, transfer=transfer, gamma=gamma, intent=1)
    if gamma:
        made.transfer = _GAMMA
    if isinstance(primaries, int):
        made.primaries = primaries
    else:
        made.primaries = CUSTOM
        made.primaries_xy[:] = primaries
    return made


class _Format(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_uint32),
        ("type", ctypes.c_int),
        ("endianness", ctypes.c_int),
        ("align", ctypes.c_size_t),
    )


@cache
def _library() -> Any:
    folder = Path(imagecodecs.__file__).parent
    (path,) = (folder.parent / "imagecodecs.libs").glob("libjxl-*")
    # Importing the codec loads what the library needs.
    imagecodecs.jpegxl_version()
    library = ctypes.CDLL(os.fspath(path))
    for name in ("JxlEncoderCreate", "JxlEncoderFrameSettingsCreate"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def jpegxl(
    pixels: npt.NDArray[Any],
    *,
    icc: bytes | None = None,
    colours: Encoding | None = None,
    distance: float | None = None,
    bits: int | None = None,
    orientation: int = 1,
    is_premultiplied: bool = False,
    frames: int = 1,
    boxes: Sequence[tuple[bytes, bytes]] = (),
    is_compressed: bool = False,
    effort: int = 3,
) -> bytes:
    """The file of pixels of shape (height, width, channels), or (frames, …); the last of 2 or 4
    channels is alpha.

    Without `distance` it is lossless, else it is in the colours of XYB. `boxes` are kinds and
    contents of metadata.
    """
    library = _library()
    height, width, channels = pixels.shape[-3:]
    depth = pixels.dtype.itemsize * 8
    info = _BasicInfo()
    library.JxlEncoderInitBasicInfo(ctypes.byref(info))
    info.width, info.height = width, height
    info.bits = depth if bits is None else bits
    info.exponent = {16: 5, 32: 8}[info.bits] if pixels.dtype.kind == "f" else 0
    info.original = distance is None
    info.orientation = orientation
    info.colours = 1 if channels < 3 else 3
    info.extra = 1 - channels % 2
    info.alpha_bits, info.alpha_exponent = (info.bits, info.exponent) if info.extra else (0, 0)
    if frames > 1:
        info.animation = 1
        info.ticks[:] = 10, 1
    encoder = ctypes.c_void_p(library.JxlEncoderCreate(None))

    def call(name: str, *arguments: Any) -> None:
        status = getattr(library, name)(*arguments)
        assert status == 0, f"{name}: {library.JxlEncoderGetError(encoder)}"

    try:
        if boxes:
            call("JxlEncoderUseBoxes", encoder)
        call("JxlEncoderSetBasicInfo", encoder, ctypes.byref(info))
        if is_premultiplied:
            alpha = (ctypes.c_uint32 * 11)(0, info.bits, info.exponent, 0, 0, 1)
            call("JxlEncoderSetExtraChannelInfo", encoder, ctypes.c_size_t(0), alpha)
        level = library.JxlEncoderGetRequiredCodestreamLevel(encoder)
        call("JxlEncoderSetCodestreamLevel", encoder, level)
        if icc is not None:
            call("JxlEncoderSetICCProfile", encoder, icc, ctypes.c_size_t(len(icc)))
        else:
            space = RGB if channels > 2 else GREY
            made = encoding(space) if colours is None else colours
            call("JxlEncoderSetColorEncoding", encoder, ctypes.byref(made))
        for kind, body in boxes:
            call("JxlEncoderAddBox", encoder, kind, body, ctypes.c_size_t(len(body)), is_compressed)
        settings = ctypes.c_void_p(library.JxlEncoderFrameSettingsCreate(encoder, None))
        call("JxlEncoderFrameSettingsSetOption", settings, _EFFORT, ctypes.c_int64(effort))
        if distance is None:
            call("JxlEncoderSetFrameLossless", settings, 1)
        else:
            call("JxlEncoderSetFrameDistance", settings, ctypes.c_float(distance))
        kind = _FLOAT if info.exponent else {8: _UINT8, 16: _UINT16}[depth]
        form = _Format(channels, kind, 0, 0)
        header = (ctypes.c_uint32 * 64)()
        library.JxlEncoderInitFrameHeader(header)
        header[0] = int(frames > 1)  # the duration; frames without one are layers of the next
        call("JxlEncoderSetFrameHeader", settings, header)
        for frame in pixels.reshape(frames, height, width, channels):
            data = np.ascontiguousarray(frame).tobytes()
            call(
                *("JxlEncoderAddImageFrame", settings, ctypes.byref(form)),
                *(data, ctypes.c_size_t(len(data))),
            )
        library.JxlEncoderCloseInput(encoder)
        return _output(library, encoder)
    finally:
        library.JxlEncoderDestroy(encoder)


def _output(library: Any, encoder: ctypes.c_void_p) -> bytes:
    output = b""
    while True:
        piece = ctypes.create_string_buffer(1 << 16)
        start = ctypes.addressof(piece)
        position, left = ctypes.c_void_p(start), ctypes.c_size_t(len(piece))
        status = library.JxlEncoderProcessOutput(
            encoder, ctypes.byref(position), ctypes.byref(left)
        )
        output += piece.raw[: len(piece) - left.value]
        if status != _NEED_MORE_OUTPUT:
            assert status == 0, library.JxlEncoderGetError(encoder)
            return output
