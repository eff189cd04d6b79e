"""Builds what a Dockerfile describes, without Docker: its steps word for word, in clean file systems."""

from __future__ import annotations

import shutil
import string
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from clean_root import CleanRoot
from dockerfile import Context, Stage, Step, read_dockerfile

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Image:
    """A built stage: its files, and what it says of how to run it."""

    root: CleanRoot
    stage: Stage
    environment: dict[str, str] = field(default_factory=dict)


def pip_options() -> dict[str, str]:
    """How this machine's pip finds packages, as variables that tell another pip the same."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        found["PIP_" + name.rpartition(".")[2].replace("-", "_").upper()] = value.strip("'")
    return found


class Builder:
    """Runs the steps of a Dockerfile stage by stage, each stage in a clean root of its own."""

    def __init__(self, folder: Path) -> None:
        self._dockerfile = read_dockerfile((REPOSITORY / "Dockerfile").read_text())
        self._folder = folder
        self._pip = pip_options()
        words = " ".join(self._pip.values()).split()
        # The pages of an index point to files beside its folder.
        paths = [Path(word.removeprefix("file://")) for word in words]
        paths = [path.parent if path.name == "simple" else path for path in paths]
        self._shared = [path for path in paths if path.is_dir()]
        self._built: dict[str, CleanRoot] = {}

    def build(self, **arguments: str) -> Image:
        """The last stage; `arguments` are what `--build-arg` gives."""
        # Where this machine's pip is told of further indexes, they stand in for PyTorch's.
        if "PIP_EXTRA_INDEX_URL" in self._pip:
            arguments = {"TORCH_CPU_INDEX": self._pip["PIP_EXTRA_INDEX_URL"], **arguments}
        for stage in self._dockerfile.stages:
            image = Image(CleanRoot(self._folder / (stage.name or "image"), self._shared), stage)
            given: dict[str, str] = {}
            place = "/"
            for step in stage.steps:
                if step.word == "ARG":
                    name, _, default = step.value.partition("=")
                    given[name] = arguments.get(name, default)
                elif step.word == "ENV":
                    path = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
                    for pair in step.words:
                        name, _, value = pair.partition("=")
                        known = path | image.environment
                        image.environment[name] = string.Template(value).substitute(known)
                elif step.word == "WORKDIR":
                    place = step.value
                    image.root.path(place).mkdir(parents=True, exist_ok=True)
                elif step.word == "COPY":
                    self._copy(step, image.root, place)
                elif step.word == "RUN":
                    image.root.run(
                        ["sh", "-c", step.value],
                        environment={**self._pip, **image.environment, **given},
                        folder=place,
                    )
            self._built[stage.name] = image.root
        return image

    def _copy(self, step: Step, root: CleanRoot, place: str) -> None:
        *sources, target = step.words
        if "from" in step.flags:
            (source,) = sources
            origin = self._built[step.flags["from"]].path(source)
            root.path(target).parent.mkdir(parents=True, exist_ok=True)
            # Links instead of copies: nothing is written to a stage after it.
            subprocess.run(["cp", "-al", origin, root.path(target)], check=True)
            return
        context = Context(REPOSITORY)
        for name in context.files():
            if "." in sources or name in sources:
                copied = root.path(Path(place, target, name))
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, copied)
