"""Prompts in the forms that the models were trained on.

Instruct models were tuned on Phi-3's chat form. Examples are turns that went before. Base models were
trained on images and texts in a chain, each text ended by `<|endofchunk|>`; there, an example is the
prompt with its caption after it, without a space between. That is OpenFlamingo's form (Awadalla et al.,
2023, arXiv 2308.01390), on which the models' evaluation is based by their card; which wording gave the
published scores is not said.
"""

from __future__ import annotations

from collections.abc import Sequence

from regard.models.xgenmm.config import (
    ASSISTANT,
    END,
    END_OF_CHUNK,
    IMAGE,
    PLACEHOLDER,
    SYSTEM,
    USER,
)

BASE_PROMPT = "A short description of this image in one sentence:"
INSTRUCT_PROMPT = "Describe this image in one short sentence."
_SYSTEM_MESSAGE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def instruct_prompt(question: str, captions: Sequence[str] = ()) -> str:
    """A chat that asks about one image for each earlier caption, then about one more."""
    user = f"{USER}\n{IMAGE}\n{question}{END}\n{ASSISTANT}\n"
    earlier = "".join(f"{user}{caption}{END}\n" for caption in captions)
    return f"{SYSTEM}\n{_SYSTEM_MESSAGE}{END}\n{earlier}{user}"


def base_prompt(beginning: str, captions: Sequence[str] = (), *, latents: int) -> str:
    """A chain of one image for each earlier caption, then one more whose caption is to be written.

    An image takes `latents` tokens of the prompt.
    """
    image = IMAGE + PLACEHOLDER * (latents - 1)
    earlier = "".join(f"{image}{beginning}{caption}{END_OF_CHUNK}" for caption in captions)
    return f"{earlier}{image}{beginning}"
