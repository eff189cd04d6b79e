"""The `lite` profile: which models, which spaces, and which channels a query meets."""

from __future__ import annotations

import functools

from regard.core.machine import usable_cores
from regard.core.protocols import Analyzer, Encoder
from regard.core.records import (
    Channel,
    Kind,
    PipelineSpec,
    QueryKind,
    Routes,
    Target,
    WeightedChannel,
)
from regard.models.lite import captioner, views
from regard.models.lite.analyzer import CAPTION_MODEL, LiteAnalyzer
from regard.models.lite.classifier import Classifier, limit_threads
from regard.models.lite.encoder import (
    JOINT,
    PARAMETERS,
    VISUAL,
    JointEncoder,
    VisualEncoder,
)
from regard.models.lite.naming import Namer
from regard.models.lite.segmenter import SuperpixelSegmenter
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.weights import EFFICIENTNET_LITE2, MINILM_WEIGHTS

_IMAGE_WEIGHT, _REGION_WEIGHT, _CAPTION_WEIGHT = 1.0, 0.5, 0.1


class LiteProfile:
    """See `regard.core.protocols.Profile`. The models are made once and load their weights lazily."""

    name = "lite"
    batch_size = 4
    # Each analysis runs on one core: more images at once use a machine better than more threads each.
    analyzer_threads = usable_cores()

    @functools.cached_property
    def spec(self) -> PipelineSpec:
        """The pipeline of this version, told without loading weights."""
        return PipelineSpec(
            profile=self.name,
            spaces=(JOINT, VISUAL),
            models={
                "classifier": EFFICIENTNET_LITE2.revision,
                "sentences": MINILM_WEIGHTS.revision,
                "captioner": CAPTION_MODEL,
                "segmenter": "superpixels",
            },
            parameters={
                "encoder": dict(PARAMETERS),
                "views": dict(views.PARAMETERS),
                "captioner": dict(captioner.PARAMETERS),
                "segmenter": dict(self._segmenter.parameters),
            },
        )

    @property
    def routes(self) -> Routes:
        """Texts meet the joint space, pictures the visual one."""
        image, region, caption = (
            Channel(JOINT.name, kind) for kind in (Kind.IMAGE, Kind.REGION, Kind.CAPTION)
        )
        looks = WeightedChannel(Channel(VISUAL.name, Kind.IMAGE))
        region_looks = WeightedChannel(Channel(VISUAL.name, Kind.REGION))
        return {
            (QueryKind.TEXT, Target.IMAGE): (
                WeightedChannel(image, _IMAGE_WEIGHT),
                WeightedChannel(region, _REGION_WEIGHT),
                WeightedChannel(caption, _CAPTION_WEIGHT),
            ),
            (QueryKind.TEXT, Target.REGION): (WeightedChannel(region),),
            (QueryKind.IMAGE, Target.IMAGE): (looks,),
            (QueryKind.IMAGE, Target.REGION): (region_looks,),
            (QueryKind.REGION, Target.IMAGE): (region_looks,),
            (QueryKind.REGION, Target.REGION): (region_looks,),
        }

    def names_thing(self, caption: str) -> bool:
        """Whether the sentence names a thing rather than colours."""
        return captioner.names_thing(caption)

    def encoder(self, space: str) -> Encoder:
        """The encoder of the joint or the visual space."""
        encoders: dict[str, Encoder] = {JOINT.name: self._joint, VISUAL.name: self._visual}
        return encoders[space]

    def analyzer(self) -> Analyzer:
        """The analyzer over the same models as the encoders.

        From here on the process computes with one thread a call, since calls run side by side.
        """
        limit_threads()
        return LiteAnalyzer(
            self._segmenter, self._classifier, self._joint, self._visual, Namer(self._sentences)
        )

    @functools.cached_property
    def _segmenter(self) -> SuperpixelSegmenter:
        return SuperpixelSegmenter()

    @functools.cached_property
    def _classifier(self) -> Classifier:
        return Classifier()

    @functools.cached_property
    def _joint(self) -> JointEncoder:
        return JointEncoder(self._classifier, self._sentences)

    @functools.cached_property
    def _sentences(self) -> SentenceEncoder:
        return SentenceEncoder()

    @functools.cached_property
    def _visual(self) -> VisualEncoder:
        return VisualEncoder(self._classifier)
