"""Prompts in the models' training formats.

Instruct models use Phi-3's chat format, with examples as earlier turns. Base models were trained
on interleaved images and texts, each text followed by `<|endofchunk|>`; an example is the prompt
followed by its caption without a space. This is OpenFlamingo's format (Awadalla et al., 2023,
arXiv 2308.01390), which the model card cites for evaluation without giving the exact wording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from regard.core.errors import DecodeError, ModelError
from regard.core.records import Image
from regard.models.parts import Parameters, expanded
from regard.models.xgenmm.anyres import Size, choose_resolution, grid_of
from regard.models.xgenmm.config import (
    ADDED,
    ASSISTANT,
    END,
    END_OF_CHUNK,
    IMAGE,
    PLACEHOLDER,
    SYSTEM,
    USER,
    XGenMMConfig,
)
from regard.photos.photo_file import decode_file

BASE_PROMPT = "A short description of this image in one sentence:"
INSTRUCT_PROMPT = "Describe this image in one short sentence."
_SYSTEM_MESSAGE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def instruct_prompt(question: str, captions: Sequence[str] = ()) -> str:
    """Return a chat with one turn for each example and a last one for the image."""
    user = f"{USER}\n{IMAGE}\n{question}{END}\n{ASSISTANT}\n"
    earlier = "".join(f"{user}{caption}{END}\n" for caption in captions)
    return f"{SYSTEM}\n{_SYSTEM_MESSAGE}{END}\n{earlier}{user}"


def base_prompt(beginning: str, captions: Sequence[str] = (), *, latents: int) -> str:
    """Return one image and caption for each example, then the image to caption.

    Each image takes `latents` tokens of the prompt.
    """
    image = IMAGE + PLACEHOLDER * (latents - 1)
    earlier = "".join(f"{image}{beginning}{caption}{END_OF_CHUNK}" for caption in captions)
    return f"{earlier}{image}{beginning}"


def _without_image_tokens(text: str) -> str:
    if any(token in text for token in ADDED):
        raise ValueError(f"the words {', '.join(ADDED)} are put into prompts where they belong")
    return text


_Text = Annotated[str, Field(min_length=1), AfterValidator(_without_image_tokens)]


class Example(BaseModel):
    """An example: an image file (`~` is expanded) and its caption."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Annotated[Path, AfterValidator(expanded)]
    caption: _Text


class XGenMMParameters(Parameters):
    """How captions are prompted.

    `prompt`: the question for an instruct model or the text that a base model continues; None
    selects the default. `examples` precede every image and improve a base model greatly; relative
    paths start at the profile's folder. `tiles` = false gives an instruct model only the whole
    view: less detail, a fifth of the work. `regions`: whether to caption regions as well.
    """

    working: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    prompt: _Text | None = None
    examples: tuple[Example, ...] = ()
    max_new_tokens: int = Field(default=32, ge=1)
    beams: int = Field(default=1, ge=1)
    batch_size: int = Field(default=8, ge=1)
    tiles: bool = True
    regions: bool = False


def from_base(parameters: XGenMMParameters, base: Path) -> XGenMMParameters:
    """Resolve the examples' image paths relative to a folder."""
    examples = tuple(
        example.model_copy(update={"image": base / example.image})
        for example in parameters.examples
    )
    return parameters.model_copy(update={"examples": examples})


@dataclass(frozen=True, slots=True)
class Prompting:
    """A model and its prompt."""

    config: XGenMMConfig
    parameters: XGenMMParameters

    @property
    def question(self) -> str:
        """The question; the model's default when none is given."""
        own = INSTRUCT_PROMPT if self.config.instruct else BASE_PROMPT
        return self.parameters.prompt or own

    def prompt(self, captions: Sequence[str]) -> str:
        """Return the whole prompt: each example's image and caption, then the image."""
        if self.config.instruct:
            return instruct_prompt(self.question, captions)
        latents = self.config.resampler.num_vis_tokens
        return base_prompt(self.question, captions, latents=latents)

    @property
    def most_groups(self) -> int:
        """Most views of any image."""
        if not (self.config.instruct and self.parameters.tiles):
            return 1
        side = self.config.tower.image_size
        grids = [grid_of(resolution, side) for resolution in self.config.pinpoints]
        return 1 + max(columns * rows for columns, rows in grids)

    def longest(self, prompt: Sequence[int], examples: Sequence[Size]) -> int:
        """Return the length of the longest sequence, including new tokens.

        `prompt`: its ids; `examples`: the sizes of the examples' images.
        """
        length = len(prompt) + self.parameters.max_new_tokens
        if not self.config.instruct:
            return length
        groups = sum(self._groups(size) for size in examples) + self.most_groups
        image_tokens = groups * self.config.resampler.num_vis_tokens
        places = sum(token == self.config.token_ids[IMAGE] for token in prompt)
        return length + image_tokens - places

    def _groups(self, size: Size) -> int:
        if not self.parameters.tiles:
            return 1
        side = self.config.tower.image_size
        columns, rows = grid_of(choose_resolution(size, self.config.pinpoints), side)
        return 1 + columns * rows


def read_examples(parameters: XGenMMParameters) -> list[tuple[Image, str]]:
    """Decode the examples' images; return them with their captions. Raises ModelError."""
    found = []
    for example in parameters.examples:
        path = example.image
        try:
            found.append((decode_file(path), example.caption))
        except DecodeError as error:
            raise ModelError(
                f"the example image {path} can't be read: {error.message}",
                remedy="correct the captioner's examples in the profile",
            ) from error
    return found
