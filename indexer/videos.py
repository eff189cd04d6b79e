"""Analyses a video by its moments, each as the image that it is.

The analysis of a video has a region for each moment: the whole frame, with the vectors and the
caption of that image. Segments of frames are left out: there would be a dozen a moment. The
video's own vector and caption are those of its poster. A moment's vectors of the whole image are
kept among those of images too, so that a video is found by any of its moments as a photograph is.

Frames are decoded, reduced and analysed a few at a time, so that memory does not grow with a video.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace

from regard.core.errors import DecodeError
from regard.core.geometry import Box
from regard.core.records import Analysis, Caption, Embedding, Image, Kind, Region
from regard.photos.decoding import DecodeLimits
from regard.photos.files import Confinement
from regard.photos.formats import MOMENTS_A_MINUTE
from regard.photos.masks import mask_from_box
from regard.photos.media import open_media
from regard.photos.moments import MomentChooser
from regard.photos.video import VideoFile

# No model looks at more; captions and vectors of larger frames do not differ.
_REDUCED_TO = 1920


@dataclass(frozen=True, slots=True)
class VideoSource:
    """A video that is opened where it is analysed."""

    path: bytes
    sha256: str
    limits: DecodeLimits
    confinement: Confinement | None = None


AnalyseImages = Callable[[Sequence[Image]], Sequence[Analysis | str]]
"""Analyses images, in order; a failure reason in place of one that failed."""


def analyse_video(
    source: VideoSource,
    analyse: AnalyseImages,
    batch_size: int,
    stopped: Callable[[], bool],
    moments_a_minute: int = MOMENTS_A_MINUTE,
) -> Analysis | str:
    """Choose the moments of a video and analyse them; returns why that failed, if it did.

    Raises CancelledError once `stopped` returns true.
    """

    def checkpoint() -> None:
        if stopped():
            raise CancelledError

    try:
        with open_media(source.path, source.limits, source.confinement) as file:
            if not isinstance(file, VideoFile) or file.sha256 != source.sha256:
                return "it changed while it was read"
            header = file.header
            moments, duration_ms = file.moments(MomentChooser(moments_a_minute), checkpoint)
            frames = file.frames(moments.times, reduced_to=_REDUCED_TO, checkpoint=checkpoint)
            analysed: list[tuple[int, Analysis]] = []
            while some := list(itertools.islice(frames, batch_size)):
                checkpoint()
                times, images = zip(*some, strict=True)
                for time_ms, analysis in zip(times, analyse(images), strict=True):
                    if isinstance(analysis, str):
                        return analysis
                    analysed.append((time_ms, analysis))
        poster = moments.times.index(moments.poster_ms)
        whole = Box(0, 0, header.width, header.height)
        analysis = analysis_of_moments(analysed, poster, whole)
        return replace(analysis, duration_ms=duration_ms, poster_ms=moments.poster_ms)
    except DecodeError as error:
        return error.message


def analysis_of_moments(
    moments: Sequence[tuple[int, Analysis]], poster: int, frame: Box
) -> Analysis:
    """One analysis from the times and analyses of moments; `poster` stands for the whole.

    `frame` is the box of the whole frame.
    """
    mask = mask_from_box(frame.height, frame.width, frame)
    captions: list[Caption] = []
    embeddings: list[Embedding] = []

    def add(analysis: Analysis, region: int | None) -> None:
        """Add what an analysis says of the whole image, as said of a region or of the video."""
        places: dict[int, int] = {}
        for place, caption in enumerate(analysis.captions):
            if caption.region is None:
                places[place] = len(captions)
                captions.append(replace(caption, region=region))
        for one in analysis.embeddings:
            if one.kind is Kind.IMAGE:
                embeddings.append(replace(one, region=region))
                if region is not None:
                    embeddings.append(replace(one, kind=Kind.REGION, region=region))
            elif one.caption in places:
                caption_place = places[one.caption]
                embeddings.append(replace(one, region=region, caption=caption_place))

    # The first caption without a region is the video's own. Of equal vectors, those of moments
    # come first, so that a hit names its moment.
    for place, (_, analysis) in enumerate(moments):
        add(analysis, place)
    add(moments[poster][1], None)
    return Analysis(
        tuple(Region(frame, mask, frame.area, 1.0, time_ms) for time_ms, _ in moments),
        tuple(captions),
        tuple(embeddings),
    )
