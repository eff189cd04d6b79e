"""Weight files of pinned packages, verified by SHA-256.

Nothing is downloaded and no package is imported: a file is located through the package's spec and
read or mapped once. The verified bytes are the ones that are loaded, so that replacing the file
meanwhile, as pip does, has no effect.
"""

from __future__ import annotations

import hashlib
import importlib.util
import mmap
from dataclasses import dataclass
from pathlib import Path

from regard.core.errors import MissingDependency, ModelError


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file of an installed package: its `path` inside `module` and its expected `sha256`."""

    distribution: str
    version: str
    module: str
    path: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The pip requirement that installs the file."""
        return f"{self.distribution}=={self.version}"

    @property
    def revision(self) -> str:
        """Requirement and leading hash digits: the model's name in a pipeline."""
        return f"{self.requirement}#{self.sha256[:12]}"

    def locate(self) -> Path:
        """Return the file's path; raises MissingDependency when the package or file is absent."""
        spec = importlib.util.find_spec(self.module)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            candidate = Path(folder, self.path)
            if candidate.is_file():
                return candidate
        raise MissingDependency(
            f"{self.path} of the package {self.distribution} is needed, which is not installed",
            remedy=f"run: pip install {self.requirement}",
        )

    def read(self) -> bytes:
        """Return the file's bytes; raises ModelError when their SHA-256 is not `sha256`."""
        return self.map()[:]

    def map(self) -> mmap.mmap:
        """Map the file's bytes, which processes then share; raises as `read` does."""
        path = self.locate()
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: the file is empty
            raise ModelError(
                f"{path} can't be read: {error}",
                remedy=f"run: pip install --force-reinstall {self.requirement}",
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise ModelError(
                f"{path} is damaged or belongs to another version: its SHA-256 is {digest}, "
                f"not {self.sha256}",
                remedy=f"run: pip install --force-reinstall {self.requirement}",
            )
        return content
