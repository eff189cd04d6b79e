"""SAM2-UNet as a profile's segmenter.

The authors publish the weights on cloud drives, so a profile names a local `.pth` or safetensors
file, or a folder that contains exactly one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from regard.core.errors import ModelError
from regard.models.checkpoints.load_errors import guarded
from regard.models.checkpoints.source import Checkpoint
from regard.models.parts import (
    CheckpointPart,
    MemoryNeed,
    PartDefinition,
    read_parameters,
)
from regard.models.sam2unet.parameters import Sam2UNetParameters

if TYPE_CHECKING:
    from regard.models.checkpoints.placement import Placement
    from regard.models.sam2unet.segmenter import Sam2UNetSegmenter

# Where the authors' README links the files.
_HOME = "github.com/WZH0120/SAM2-UNet"
_SUFFIXES = (".pth", ".pt", ".safetensors")
# An image's share of working memory: 118 MB measured on the CPU in float32, less in batches.
_WORKING_BYTES = 120_000_000


class Sam2UNetPart(CheckpointPart):
    """A foreground segmenter."""

    role: ClassVar[str] = "segmenter"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter or a missing path."""
        super().__init__(definition)
        self.parameters = read_parameters(definition, Sam2UNetParameters)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The weights file; raises ModelError when it is absent or ambiguous."""
        path = self.source.path
        if path is not None and not path.exists():
            raise ModelError(
                f"the SAM2-UNet weights {path} do not exist",
                remedy=f"put a file such as SAM2UNet-COD.pth there ({_HOME} links them), "
                f"or correct the profile {self.source.profile}",
            )
        found = super().checkpoint
        return Checkpoint(_weights_file(found.path), found.published)

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return self.parameters.identity

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`: checks the file's keys and shapes without reading weights."""
        from regard.models.sam2unet.loading import count_parameters

        placement = self._placement()
        weights = count_parameters(self.checkpoint.path) * placement.item_bytes
        working = self.parameters.batch_size * _WORKING_BYTES
        return (MemoryNeed(str(placement.device), weights + working),)

    def load(self) -> Sam2UNetSegmenter:
        """Read the weights and return the segmenter; raises ModelError."""
        from regard.models.sam2unet.loading import load_network
        from regard.models.sam2unet.segmenter import Sam2UNetSegmenter

        placement = self._placement()
        network = guarded(
            lambda: load_network(self.checkpoint.path, placement), self.definition.where
        )
        return Sam2UNetSegmenter(network, placement, self.parameters)

    def _placement(self) -> Placement:
        from regard.models.checkpoints.placement import Placement

        return Placement.resolve(self.definition.device, self.definition.dtype)


def _weights_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if not files:
        raise ModelError(
            f"the folder {path} holds no SAM2-UNet weights",
            remedy=f"put a file such as SAM2UNet-COD.pth there ({_HOME} links them)",
        )
    if len(files) > 1:
        raise ModelError(
            f"the folder {path} holds several files of weights: "
            f"{', '.join(file.name for file in files)}",
            remedy="name one of them in the profile",
        )
    return files[0]
