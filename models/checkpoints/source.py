"""Locates a model's files and gives them an identity in a pipeline.

A source names a model on the hub (id and revision), a local folder or file, or both. With both,
the local files take the model's name, so a copy of a published model shares its space. A folder
without a name is identified by a signature of its bytes. Nothing here uses the network;
`regard.models.checkpoints.fetching` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regard.core.errors import ModelError

CONFIG = "config.json"
_SHARDED = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
# Wanted files of a published model: configs, tokenizers and safetensors of the top folder; never
# code, pickles or copies in other formats.
WANTED = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors")
UNWANTED = ("*/*",)
# A signature reads small files whole, tokenizers among them, and from each larger one this many
# blocks of this many bytes, evenly spread.
_WHOLE_BYTES = 1 << 26
_BLOCKS, _BLOCK_BYTES = 64, 1 << 16


@dataclass(frozen=True, slots=True)
class ModelSource:
    """`model` and `revision` on the hub, or a local `path`; at least one of model and path.

    `profile` is named in the command that fetches the model, which takes `--refine` if only
    `search --refine` needs it; `download_bytes` is the approximate size of the published files, 0
    if unknown.
    """

    model: str | None = None
    revision: str = "main"
    path: Path | None = None
    profile: str = ""
    download_bytes: int = 0
    for_refining: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """The hub id, or else the path."""
        return self.model or str(self.path)

    def locate(self) -> Checkpoint:
        """The local files; raises ModelError when they are absent."""
        if self.path is not None:
            if not self.path.exists():
                raise ModelError(
                    f"the model path {self.path} does not exist",
                    remedy=f"put the files there, or correct the profile {self.profile}",
                )
            return Checkpoint(self.path, f"{self.model}@{self.revision}" if self.model else None)
        assert self.model is not None
        folder = self._cached()
        if folder is None:
            size = f" ({format_bytes(self.download_bytes)})" if self.download_bytes else ""
            raise ModelError(
                f"the weights of {self.model}{size} are not on this machine",
                remedy=f"run: regard models fetch {self.profile}"
                + (" --refine" if self.for_refining else ""),
            )
        return Checkpoint(folder, f"{self.model}@{folder.name}")

    def _cached(self) -> Path | None:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        assert self.model is not None
        try:
            return Path(
                snapshot_download(
                    self.model,
                    revision=self.revision,
                    allow_patterns=list(WANTED),
                    ignore_patterns=list(UNWANTED),
                    local_files_only=True,
                )
            )
        except LocalEntryNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's local files: a folder, or one file for bare state dicts.

    `published` is the model's id and revision, if known.
    """

    path: Path
    published: str | None = None

    @property
    def identity(self) -> str:
        """The model's name in a pipeline: id and revision, or else name and signature.

        The signature covers all of the model's files, including tokenizer and preprocessing.
        """
        if self.published is not None:
            return self.published
        files = [self.path]
        if self.path.is_dir():
            found = {file for pattern in WANTED for file in self.path.glob(pattern)}
            files = sorted(file for file in found if file.is_file())
        try:
            return f"{self.path.name}#{signature(files)}"
        except OSError as error:
            raise ModelError(f"{error.filename} can't be read: {error.strerror}") from error

    def config(self) -> dict[str, Any]:
        """Read `config.json`; raises ModelError when it is missing or not a JSON object."""
        return self.json(CONFIG)

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON file; raises ModelError when it is missing or not a JSON object."""
        try:
            document = json.loads(self.require(name).read_bytes())
        except OSError as error:
            raise ModelError(f"{self.path / name} can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{self.path / name} is not valid JSON") from error
        if not isinstance(document, dict):
            raise ModelError(f"{self.path / name} is not a JSON object")
        return document

    def require(self, name: str) -> Path:
        """Return a file's path; raises ModelError when it is missing."""
        path = self.path / name
        if not path.is_file():
            raise ModelError(
                f"{self.path} lacks {name}", remedy="fetch the model again, or copy it whole"
            )
        return path

    def weights(self) -> tuple[Path, ...]:
        """The safetensors files: the shards that the index names, or the single file.

        Raises ModelError when one is missing, or when there are only pickles.
        """
        if (self.path / _SHARDED).is_file():
            index = self.json(_SHARDED).get("weight_map")
            if not isinstance(index, dict) or not index:
                raise ModelError(f"{self.path / _SHARDED} names no shards")
            return tuple(self.require(str(shard)) for shard in sorted(set(index.values())))
        if (self.path / _SINGLE).is_file():
            return (self.path / _SINGLE,)
        pickles = sorted([*self.path.glob("*.bin"), *self.path.glob("*.pt*")])
        if pickles:
            raise ModelError(
                f"{self.path} holds a pickle ({pickles[0].name}) where safetensors is expected",
                remedy="convert it with safetensors, or take a revision that has safetensors",
            )
        return (self.require(_SINGLE),)


def signature(files: Sequence[Path]) -> str:
    """Return 12 hex digits of a SHA-256 over names, sizes and bytes.

    Only evenly spread blocks of large files are read. Training changes every block of the weights,
    so a sample detects it; deliberate forgery is not detected. Raises OSError.
    """
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE_BYTES:
                digest.update(stream.read())
                continue
            for block in range(_BLOCKS):
                offset = block * (size - _BLOCK_BYTES) // (_BLOCKS - 1)
                stream.seek(offset)
                digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()[:12]


def format_bytes(count: int) -> str:
    """Format a size in decimal units with three significant digits."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
