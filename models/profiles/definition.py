"""Reads and validates a profile's TOML file, without importing or opening any model."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from regard.core.errors import UsageError
from regard.models.checkpoints.source import ModelSource
from regard.models.parts import PartDefinition, expanded

_HUB_NAME = r"[A-Za-z0-9_](?:(?!--|\.\.)[A-Za-z0-9_.-])*(?<![.-])(?<!\.git)"
_HUB_ID = re.compile(rf"(?:{_HUB_NAME}/)?{_HUB_NAME}")
_LONGEST_ID = 96
# Roles of the parts that make a pipeline, of the one whose results are kept apart from pipelines,
# and of those that only searches use.
INDEXING_ROLES = ("encoder", "visual_encoder", "captioner", "segmenter")
READING_ROLE = "reader"
REFINING_ROLES = ("grounder", "box_segmenter")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartTable(_Table):
    """One model: its `kind`, the source of its weights, its device and dtype, its parameters."""

    kind: str
    model: str | None = None
    revision: str | None = None
    folder: str | None = None
    download_bytes: int = Field(default=0, ge=0)
    device: str = "auto"
    dtype: str = "auto"
    parameters: dict[str, Any] = {}

    @field_validator("model")
    @classmethod
    def _model_is_an_id(cls, model: str | None) -> str | None:
        if model is not None and (len(model) > _LONGEST_ID or not _HUB_ID.fullmatch(model)):
            raise ValueError(f"{model!r} can't be a model of the hub, which are named OWNER/NAME")
        return model

    @field_validator("revision")
    @classmethod
    def _revision_is_a_name(cls, revision: str | None) -> str | None:
        if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise ValueError(f"{revision!r} can't be a revision: a branch, a tag or a commit")
        return revision

    @field_validator("folder")
    @classmethod
    def _folder_is_a_path(cls, folder: str | None) -> str | None:
        if folder is not None:
            if not folder.strip() or "\0" in folder:
                raise ValueError(f"{folder!r} is not a path")
            expanded(folder)
        return folder

    @model_validator(mode="after")
    def _revision_is_of_a_model(self) -> PartTable:
        if self.revision is not None and self.model is None:
            raise ValueError("a revision needs a model")
        return self


class WeightsTable(_Table):
    """Weights of the channels in the fusion of a text query's results."""

    image: float = Field(default=1.0, ge=0)
    region: float = Field(default=0.5, ge=0)
    caption: float = Field(default=0.25, ge=0)
    keyword: float = Field(default=2.0, ge=0)


class ProfileDefinition(_Table):
    """A profile's file. `visual_encoder` serves image queries; without it, `encoder` does.

    `reader` reads text in the pictures; what it reads is independent of the other parts.
    `grounder` finds what a text names when a search asks for it, and `box_segmenter` draws its
    mask; without it, `segmenter` does if it can, else the mask is the box. Nothing that is stored
    depends on either.

    `threads`: number of parallel analyses; "cores" means one for each core. `gpu_memory_bytes`:
    approximate GPU memory in bfloat16, shown before the files are downloaded. `memory_bytes`: the
    same on a CPU, 0 for models that are too slow there.
    """

    description: str
    batch_size: int = Field(default=8, ge=1)
    threads: Annotated[int, Field(ge=1)] | Literal["cores"] = 1
    gpu_memory_bytes: int = Field(default=0, ge=0)
    memory_bytes: int = Field(default=0, ge=0)
    encoder: PartTable
    visual_encoder: PartTable | None = None
    captioner: PartTable | None = None
    segmenter: PartTable | None = None
    reader: PartTable | None = None
    grounder: PartTable | None = None
    box_segmenter: PartTable | None = None
    weights: WeightsTable = WeightsTable()

    def tables(self) -> dict[str, PartTable]:
        """Return the tables present, by role."""
        roles = (*INDEXING_ROLES, READING_ROLE, *REFINING_ROLES)
        tables = {role: getattr(self, role) for role in roles}
        return {role: table for role, table in tables.items() if table is not None}


def read_definition(path: Path) -> ProfileDefinition:
    """Read a definition; raises UsageError that names the file and the invalid field."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return ProfileDefinition.model_validate(document)
    except OSError as error:
        raise UsageError(f"the profile {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the profile {path} is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the profile {path} is not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"the profile {path} is wrong at {where}: {said}",
            remedy="compare it with: regard profiles --show blip3",
        ) from error


def part_definition(table: PartTable, profile: str, role: str, base: Path) -> PartDefinition:
    """Resolve a table for its part; `base` is the profile's folder, for relative paths."""
    source = None
    if table.model is not None or table.folder is not None:
        source = ModelSource(
            model=table.model,
            revision=table.revision or "main",
            path=None if table.folder is None else base / expanded(table.folder),
            profile=profile,
            download_bytes=table.download_bytes,
            for_refining=role in REFINING_ROLES,
        )
    return PartDefinition(
        kind=table.kind,
        where=f"profile {Path(profile).stem}, {role}",
        source=source,
        device=table.device,
        dtype=table.dtype,
        parameters=table.parameters,
        base=base,
    )
