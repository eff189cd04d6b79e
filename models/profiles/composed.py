"""A profile composed of parts: its pipeline, problems that prevent it from running, and its
models.

Each part loads once, on first use, so a search loads only the encoder of its query.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from regard.core.errors import (
    CannotWork,
    MissingDependency,
    ModelError,
    RegardError,
    UnanswerableQuery,
)
from regard.core.protocols import Analyzer, Captioner, Encoder, Grounder, Segmenter
from regard.core.records import (
    KEYWORDS,
    Channel,
    Float32Array,
    Kind,
    PipelineSpec,
    QueryKind,
    Routes,
    Space,
    Target,
    WeightedChannel,
)
from regard.core.relevance import Calibrations
from regard.core.texts import Reader, ReaderSpec
from regard.models.checkpoints.memory import available_memory
from regard.models.checkpoints.source import ModelSource, format_bytes
from regard.models.parts import (
    BoxSegmenter,
    CaptionerPart,
    EncoderPart,
    LocatorPart,
    ProjectingPart,
    ReaderPart,
    SegmenterPart,
    TowerTaker,
)
from regard.models.profiles.calibration import read_calibrations
from regard.models.profiles.definition import (
    INDEXING_ROLES,
    READING_ROLE,
    REFINING_ROLES,
    ProfileDefinition,
    part_definition,
)
from regard.models.profiles.kinds import make_part


class ComposedProfile:
    """See `regard.core.protocols.Profile`. Thread-safe."""

    def __init__(
        self,
        name: str,
        definition: ProfileDefinition,
        base: Path,
        calibration_file: Path | None = None,
    ) -> None:
        """`base`: folder for relative paths; the calibration's file may not exist.

        Raises UsageError for an unknown kind or parameter.
        """
        self.name = name
        self.definition = definition
        self._base = base
        self._calibration_file = calibration_file
        self.batch_size = definition.batch_size
        threads = definition.threads
        self.analyzer_threads = None if threads == "cores" else threads
        tables = definition.tables()
        parts: Mapping[str, Any] = {
            role: make_part(role, part_definition(table, name, role, base))
            for role, table in tables.items()
        }
        # Nothing of a pipeline depends on the reader and the parts that refine.
        self._refining = {role: part for role, part in parts.items() if role in REFINING_ROLES}
        self._reader: ReaderPart | None = parts.get(READING_ROLE)
        self._parts = {role: part for role, part in parts.items() if role in INDEXING_ROLES}
        # The analyzer of `lite` shares an image's views among its parts.
        kinds = {role: tables[role].kind for role in self._parts if role != "segmenter"}
        self._is_lite = kinds == {
            "encoder": "lite-joint",
            "visual_encoder": "lite-visual",
            "captioner": "lite-classes",
        }
        self._loading = threading.RLock()
        self._loaded: dict[str, Any] = {}
        self._loaded_bytes: dict[str, int] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return ComposedProfile, (self.name, self.definition, self._base, self._calibration_file)

    @cached_property
    def calibrations(self) -> Calibrations | None:
        """See `Profile.calibrations`; raises UsageError for an invalid file."""
        return None if self._calibration_file is None else read_calibrations(self._calibration_file)

    @cached_property
    def spaces(self) -> tuple[Space, ...]:
        """The encoders' spaces; raises ModelError when an encoder's files are absent."""
        return tuple(part.space() for part in self._encoder_parts.values())

    @cached_property
    def spec(self) -> PipelineSpec:
        """The pipeline of these parts; raises ModelError when a part's files are absent."""
        models: dict[str, str] = {}
        parameters: dict[str, Any] = {}
        for part in self._parts.values():
            models |= part.names()
            parameters[part.role] = dict(part.identity())
        return PipelineSpec(self.name, self.spaces, models, parameters)

    @cached_property
    def routes(self) -> Routes:
        """Texts query the encoder's space, images the visual encoder's if there is one."""
        weights = self.definition.weights
        text, looks = self.spaces[0].name, self.spaces[-1].name
        region_exists = self._segmenter is not None
        text_image = [WeightedChannel(Channel(text, Kind.IMAGE), weights.image)]
        if region_exists:
            text_image.append(WeightedChannel(Channel(text, Kind.REGION), weights.region))
        if self._captioner is not None:
            text_image.append(WeightedChannel(Channel(text, Kind.CAPTION), weights.caption))
        keywords = WeightedChannel(KEYWORDS, weights.keyword)
        text_image.append(keywords)
        routes = {
            (QueryKind.TEXT, Target.IMAGE): tuple(item for item in text_image if item.weight),
            (QueryKind.IMAGE, Target.IMAGE): (WeightedChannel(Channel(looks, Kind.IMAGE)),),
        }
        if region_exists:
            region = (WeightedChannel(Channel(looks, Kind.REGION)),)
            text_region = [WeightedChannel(Channel(text, Kind.REGION))]
            if self._captioner is not None and self._captioner.captions_regions:
                written = weights.caption / weights.region if weights.region else weights.caption
                text_region.append(WeightedChannel(Channel(text, Kind.CAPTION), written))
            # Words of captions, and of text in the picture.
            text_region.append(keywords)
            routes[QueryKind.TEXT, Target.REGION] = tuple(
                item for item in text_region if item.weight
            )
            routes[QueryKind.IMAGE, Target.REGION] = region
            routes[QueryKind.REGION, Target.IMAGE] = region
            routes[QueryKind.REGION, Target.REGION] = region
        return routes

    @property
    def sources(self) -> tuple[ModelSource, ...]:
        """Sources of the weights that indexing and searching need."""
        return _sources(self._parts)

    @property
    def refining_sources(self) -> tuple[ModelSource, ...]:
        """Sources of the weights that only `search --refine` needs."""
        return tuple(one for one in _sources(self._refining) if one not in self.sources)

    def names_thing(self, caption: str) -> bool:
        """Return whether a caption names a thing rather than only its appearance."""
        return self._captioner is not None and self._captioner.names_thing(caption)

    def problems(self) -> list[CannotWork]:
        """Return what prevents the profile from running here, without reading weights."""
        found: list[CannotWork] = []
        needed: defaultdict[str, int] = defaultdict(int)
        for part in self._parts.values():
            try:
                part.names()  # needs no torch: missing files are found quickly
                for need in part.needs():
                    needed[need.device] += need.count
            except (ModelError, MissingDependency) as error:
                found.append(error)
        if not found:
            found.extend(self._memory_problems(needed))
        return found

    def loaded_bytes(self) -> Mapping[str, int]:
        """Return the estimated memory of each loaded part, by role."""
        with self._loading:
            parts = {**self._parts, **self._refining}
            if self._reader is not None:
                parts[READING_ROLE] = self._reader
            for role in self._loaded.keys() - self._loaded_bytes.keys():
                if role in parts:
                    needs = parts[role].needs()
                    self._loaded_bytes[role] = sum(need.count for need in needs)
            return dict(self._loaded_bytes)

    def encoder(self, space: str) -> Encoder:
        """Load the encoder of a space; raises KeyError for an unknown space, ModelError."""
        for (role, part), own in zip(self._encoder_parts.items(), self.spaces, strict=True):
            if own.name == space:
                encoder: Encoder = self._once(role, part.load)
                return encoder
        raise KeyError(space)

    @cached_property
    def reader_spec(self) -> ReaderSpec | None:
        """See `Profile.reader_spec`."""
        part = self._reader
        return None if part is None else ReaderSpec(part.names(), part.identity())

    def reader(self) -> Reader:
        """See `Profile.reader`."""
        if self._reader is None:
            raise CannotWork(
                f"the profile {self.name} has no reader of text",
                remedy="add a table [reader] to its file, see: regard profiles --show lite",
            )
        reader: Reader = self._once(READING_ROLE, self._reader.load)
        return reader

    def components(self, space: str, rows: Float32Array) -> Float32Array:
        """See `Profile.components`."""
        for part, own in zip(self._encoder_parts.values(), self.spaces, strict=True):
            if own.name == space and isinstance(part, ProjectingPart):
                return part.components(rows)
        return rows

    def grounding_problem(self) -> RegardError | None:
        """See `Profile.grounding_problem`."""
        if "grounder" not in self._refining:
            return UnanswerableQuery(
                f"the profile {self.name} has no grounder to refine hits with",
                remedy="search without refining, or use a profile with a grounder: regard profiles",
            )
        try:
            for part in self._refining.values():
                part.names()
        except (ModelError, MissingDependency) as error:
            return error
        return None

    def grounder(self) -> Grounder:
        """See `Profile.grounder`; shares the segmenter of the analyzer if that draws the masks."""
        problem = self.grounding_problem()
        if problem is not None:
            raise problem
        from regard.models.grounding.grounder import LocatingGrounder

        part: LocatorPart = self._refining["grounder"]
        locator = self._once("grounder", part.load)
        drawer = None
        if "box_segmenter" in self._refining:
            drawer = self._once("box_segmenter", self._refining["box_segmenter"].load)
        elif self.definition.segmenter is not None and self.definition.segmenter.kind == "sam2":
            drawer = self._once("segmenter", self._load_segmenter)
        assert drawer is None or isinstance(drawer, BoxSegmenter)
        return LocatingGrounder(locator, drawer)

    def analyzer(self) -> Analyzer:
        """Load the analyzer, which shares the encoders' models; raises ModelError."""
        encoders = [self.encoder(space.name) for space in self.spaces]
        segmenter = self._once("segmenter", self._load_segmenter)
        if self._is_lite:
            from regard.models.lite.parts import make_analyzer

            return make_analyzer(segmenter)
        from regard.models.profiles.composition import ComposedAnalyzer

        captioner = self._once("captioner", lambda: self._load_captioner(encoders[0]))
        name = "" if self._captioner is None else self._captioner.names()["captioner"]
        regions = self._captioner is not None and self._captioner.captions_regions
        if isinstance(self._captioner, TowerTaker):
            from regard.models.profiles.shared_tower import shared_analyzer

            shared = shared_analyzer(encoders[0], captioner, segmenter, name, regions)
            if shared is not None:
                return shared
        return ComposedAnalyzer(
            encoders, captioner, segmenter, captioner_name=name, caption_regions=regions
        )

    def _load_captioner(self, encoder: Encoder) -> Captioner | None:
        part = self._captioner
        if part is None:
            return None
        if isinstance(part, TowerTaker):
            return part.load_beside(encoder)
        return part.load()

    def _load_segmenter(self) -> Segmenter | None:
        return None if self._segmenter is None else self._segmenter.load()

    def _memory_problems(self, needed: Mapping[str, int]) -> list[CannotWork]:
        found: list[CannotWork] = []
        for device, count in needed.items():
            free = _free_bytes(device)
            if count > free:
                found.append(
                    ModelError(
                        f"the profile {self.name} needs {format_bytes(count)} of memory on {device}, "
                        f"but only {format_bytes(free)} is free",
                        remedy="free memory, set dtype to bfloat16, or choose a smaller profile",
                    )
                )
        return found

    def _once(self, role: str, load: Callable[[], Any]) -> Any:
        # Concurrent first calls must read the weights once.
        with self._loading:
            if role not in self._loaded:
                self._loaded[role] = load()
            return self._loaded[role]

    @cached_property
    def _encoder_parts(self) -> Mapping[str, EncoderPart]:
        return {role: part for role, part in self._parts.items() if role.endswith("encoder")}

    @cached_property
    def _captioner(self) -> CaptionerPart | None:
        return self._parts.get("captioner")

    @cached_property
    def _segmenter(self) -> SegmenterPart | None:
        return self._parts.get("segmenter")


def _sources(parts: Mapping[str, Any]) -> tuple[ModelSource, ...]:
    found = [getattr(part, "source", None) for part in parts.values()]
    return tuple(dict.fromkeys(source for source in found if source is not None))


def _free_bytes(device: str) -> int:
    if device == "cpu":
        return available_memory()
    from regard.models.checkpoints.placement import Placement

    return Placement.resolve(device).free_bytes()
