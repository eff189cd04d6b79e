"""xGen-MM v1.5 as a part of a profile; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from regard.core.errors import ModelError
from regard.core.protocols import Encoder
from regard.models.checkpoints.source import signature
from regard.models.parts import CheckpointPart, MemoryNeed, PartDefinition, read_parameters
from regard.models.xgenmm.config import XGenMMConfig, read_config
from regard.models.xgenmm.prompting import Prompting, XGenMMParameters, from_base, read_examples

if TYPE_CHECKING:
    from torch import nn

    from regard.models.xgenmm.captioner import XGenMMCaptioner


class XGenMMPart(CheckpointPart):
    """See `regard.models.parts.CaptionerPart`; it can read through an encoder's vision tower."""

    role = "captioner"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter or a missing model."""
        super().__init__(definition)
        self.parameters = from_base(read_parameters(definition, XGenMMParameters), definition.base)

    @cached_property
    def config(self) -> XGenMMConfig:
        """The checkpoint's config; raises ModelError."""
        return read_config(self.checkpoint)

    @property
    def captions_regions(self) -> bool:
        """See `CaptionerPart.captions_regions`."""
        return self.parameters.regions

    def names_thing(self, caption: str) -> bool:
        """Return True for any caption: language models name things."""
        return bool(caption)

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`; examples are identified by their bytes, not their paths.

        Raises ModelError when the checkpoint or an example is absent.
        """
        return {
            **self.parameters.identity,
            "prompt": Prompting(self.config, self.parameters).question,
            "examples": [
                {"image": self._signature_of(index), "caption": example.caption}
                for index, example in enumerate(self.parameters.examples)
            ],
        }

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`: checks configs, tokenizer, examples, and every tensor's name and
        shape."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.checkpoints.tensors import TensorFiles
        from regard.models.xgenmm.loading import check_checkpoint
        from regard.models.xgenmm.tokenizer import PromptTokenizer

        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        tensors = TensorFiles(self.checkpoint.weights())
        check_checkpoint(self.checkpoint.path, self.config, tensors)
        prompting = Prompting(self.config, self.parameters)
        examples = read_examples(self.parameters)
        tokenizer = PromptTokenizer.read(self.checkpoint, self.config.token_ids)
        prompt = tokenizer.encode(prompting.prompt([caption for _, caption in examples]))
        longest = prompting.longest(prompt, [(image.width, image.height) for image, _ in examples])
        most = self.config.language.max_position_embeddings
        if longest > most:
            raise ModelError(
                f"{self.definition.where}: prompt, examples and caption may take {longest} tokens, "
                f"and the model reads {most}",
                remedy="give fewer examples, or set tiles to false",
            )
        held = tensors.parameters * placement.item_bytes
        used = _working_numbers(self.config, self.parameters, longest, prompting.most_groups)
        return (MemoryNeed(str(placement.device), held + used * placement.item_bytes),)

    def load(self, tower: nn.Module | None = None) -> XGenMMCaptioner:
        """Load the captioner; use `tower` if it has the same weights. Raises ModelError."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.xgenmm.captioner import load_captioner

        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        return load_captioner(self.checkpoint, self.parameters, placement, tower)

    def load_beside(self, encoder: Encoder) -> XGenMMCaptioner:
        """See `TowerTaker.load_beside`."""
        return self.load(getattr(encoder, "tower", None))

    def _signature_of(self, index: int) -> str:
        path = self.parameters.examples[index].image
        try:
            return signature([path])
        except OSError as error:
            raise ModelError(
                f"the example image {path} can't be read: {error.strerror}",
                remedy="correct the captioner's examples in the profile",
            ) from error


def _working_numbers(
    config: XGenMMConfig, parameters: XGenMMParameters, longest: int, groups: int
) -> int:
    """Most elements held beside the weights while captioning a batch.

    The sum of the batch's pixels and features, the key-value cache of every beam, which is by far
    the largest, and one layer's activations of the widest step. Loading needs one tensor of the
    checkpoint.
    """
    tower, resampler, language = config.tower, config.resampler, config.language
    views = parameters.batch_size * groups
    # Pixels travel as float32, which may be two numbers of the working precision.
    seen = views * (2 * 3 * tower.image_size**2 + tower.tokens * tower.hidden_size)
    heads = language.num_key_value_heads / language.num_attention_heads
    key_value = 2 * language.num_hidden_layers * int(language.hidden_size * heads)
    rows = parameters.batch_size * parameters.beams * longest
    # Of each layer: stream, its norm, and the larger of attention's four maps and the
    # feed-forward's.
    look = (
        parameters.batch_size
        * tower.tokens
        * (2 * tower.hidden_size + max(4 * tower.hidden_size, 2 * tower.intermediate_size))
    )
    inner = resampler.heads * resampler.dim_head
    read = (
        views
        * (tower.tokens + resampler.num_vis_tokens)
        * (2 * resampler.vis_feature_dim + 4 * inner)
    )
    write = rows * (3 * language.hidden_size + 4 * language.intermediate_size)
    merging = language.vocab_size * language.hidden_size
    return max(seen + rows * key_value + max(look, read, write), merging)
