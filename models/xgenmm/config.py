"""The configuration of an xGen-MM v1.5 checkpoint, from its JSON files; imports no torch.

The published `config.json` omits the sizes of tower, resampler and language model and the token
ids, which its code fixes. They are defaults here, and a smaller model can set them
(`siglip_vision_config`, `resampler`, `token_ids`).

Base and instruct checkpoints have the same config. Their `preprocessor_config.json` tells them
apart: `grids` is null for the base model, which has no tiles, and a list of resolutions for the
instruct models. Without that key or file, a model is an instruct model if `config.json` contains
`anyres`, with the published resolutions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from regard.core.errors import ModelError
from regard.models.checkpoints.source import CONFIG, Checkpoint

PREPROCESSOR = "preprocessor_config.json"

END_OF_TEXT, END, PAD = "<|endoftext|>", "<|end|>", "<pad>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
IMAGE, PLACEHOLDER, END_OF_CHUNK = "<image>", "<image placeholder>", "<|endofchunk|>"
# Added to Phi-3's tokenizer in this order; their rows are in separate tables.
ADDED = (IMAGE, PLACEHOLDER, END_OF_CHUNK)

# The published tokenizer: Phi-3's specials, <pad> after them, then the added ones.
_TOKEN_IDS: Mapping[str, int] = {
    END_OF_TEXT: 32000,
    ASSISTANT: 32001,
    SYSTEM: 32006,
    END: 32007,
    USER: 32010,
    PAD: 32011,
    IMAGE: 32012,
    PLACEHOLDER: 32013,
    END_OF_CHUNK: 32014,
}

# Above any size or rate of a model; excludes NaN and infinity, which JSON may contain.
_LARGEST = 2**31

Size = tuple[int, int]
Channels = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class TowerConfig:
    """The vision tower; what is left out is `google/siglip-so400m-patch14-384`."""

    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_hidden_layers: int = 27
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 384
    patch_size: int = 14
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6

    @property
    def tokens_per_side(self) -> int:
        """Patches along one side; a remainder of pixels is dropped."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """P, the number of tokens of one tile."""
        return self.tokens_per_side**2


@dataclass(frozen=True, slots=True)
class ResamplerConfig:
    """The perceiver resampler between tower and language model."""

    depth: int = 6
    heads: int = 16
    dim_head: int = 96
    ff_mult: int = 4
    vis_feature_dim: int = 1152
    lang_embedding_dim: int = 3072
    num_vis_tokens: int = 128


@dataclass(frozen=True, slots=True)
class LanguageConfig:
    """The language model; defaults are those of `microsoft/Phi-3-mini-4k-instruct`.

    `initial_tokenizer_len` tokens have rows in the main tables, which are padded to `vocab_size`.
    """

    initial_tokenizer_len: int = 32012
    vocab_size: int = 32064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    hidden_act: str = "silu"
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    sliding_window: int | None = 2047

    @property
    def merged_size(self) -> int:
        """Rows of the merged tables: main rows in use plus added rows."""
        return self.initial_tokenizer_len + len(ADDED)


@dataclass(frozen=True, slots=True)
class XGenMMConfig:
    """A whole checkpoint.

    `instruct`: whether the model was tuned for chat and tiles. `pinpoints`: the available
    resolutions (width, height), in tie-breaking order. `mean` and `std` apply to RGB in [0, 1].
    """

    tower: TowerConfig
    resampler: ResamplerConfig
    language: LanguageConfig
    token_ids: Mapping[str, int]
    instruct: bool
    pinpoints: tuple[Size, ...]
    mean: Channels = (0.5, 0.5, 0.5)
    std: Channels = (0.5, 0.5, 0.5)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids of the tokens that end a caption."""
        names = (END_OF_TEXT, END) if self.instruct else (END_OF_TEXT, END, END_OF_CHUNK)
        return tuple(self.token_ids[name] for name in names)


def read_config(checkpoint: Checkpoint) -> XGenMMConfig:
    """Read `config.json` and, where there is one, `preprocessor_config.json`; raises
    ModelError."""
    document = checkpoint.config()
    path = checkpoint.path / CONFIG
    if document.get("model_type") != "xgenmm":
        raise ModelError(
            f"{path} is of the model type {document.get('model_type')!r}, not 'xgenmm'",
            remedy="choose the kind image-text for other models",
        )
    encoder = _table(document, "vision_encoder_config", path)
    text = _table(document, "text_config", path)
    if text.get("model_type", "phi3") != "phi3" or text.get("rope_scaling") is not None:
        raise ModelError(
            f"{path} has a language model other than Phi-3 with plain rotary positions"
        )
    resampler = {
        **_table(document, "vision_tokenizer_config", path),
        **_table(document, "resampler", path),
    }
    tower = _filled(TowerConfig, _table(document, "siglip_vision_config", path), path)
    language = _filled(LanguageConfig, text, path)
    side = tower.image_size
    image = _Preprocessing.read(checkpoint, side)
    anyres = encoder.get("image_aspect_ratio") == "anyres"
    config = XGenMMConfig(
        tower=tower,
        resampler=_filled(ResamplerConfig, resampler, path),
        language=language,
        token_ids={**_TOKEN_IDS, **_table(document, "token_ids", path)},
        instruct=anyres and encoder.get("anyres_patch_sampling") is True and image.tiled,
        pinpoints=image.pinpoints,
        mean=image.mean,
        std=image.std,
    )
    _check(config, path)
    return config


@dataclass(frozen=True, slots=True)
class _Preprocessing:
    """Read `preprocessor_config.json`; the published values apply without the file."""

    pinpoints: tuple[Size, ...]
    tiled: bool = True
    mean: Channels = (0.5, 0.5, 0.5)
    std: Channels = (0.5, 0.5, 0.5)

    @classmethod
    def read(cls, checkpoint: Checkpoint, side: int) -> _Preprocessing:
        published = tuple(
            (columns * side, rows * side)
            for columns, rows in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
        )
        path = checkpoint.path / PREPROCESSOR
        if not path.is_file():
            return cls(published)
        document = checkpoint.json(PREPROCESSOR)
        for key, known in (("resize_mode", "squash"), ("interpolation_mode", "bicubic")):
            if document.get(key, known) != known:
                raise ModelError(f"{path} has an unknown {key}: {document[key]!r}")
        if document.get("size", [side, side]) != [side, side]:
            raise ModelError(f"{path} has the size {document['size']} for a tower of {side} pixels")
        pinpoints = published
        grids = document.get("grids", published)
        if grids is not None and grids is not published:
            if not isinstance(grids, list) or not grids:
                raise ModelError(f"{path} has grids that are not a list of resolutions: {grids!r}")
            pinpoints = tuple(_pair(grid, side, path) for grid in grids)
        mean = _channels(document.get("image_mean"), path)
        std = _channels(document.get("image_std"), path)
        if min(std) <= 0:
            raise ModelError(f"{path} has a deviation that is not above zero")
        return cls(pinpoints, grids is not None, mean, std)


def _pair(grid: Any, side: int, path: object) -> Size:
    if (
        not isinstance(grid, list)
        or len(grid) != 2
        or any(not _is_whole(n) or n <= 0 or n % side for n in grid)
    ):
        raise ModelError(f"{path} has a grid that is not a multiple of {side} pixels: {grid!r}")
    return grid[0], grid[1]


def _channels(values: Any, path: object) -> Channels:
    if values is None:
        return 0.5, 0.5, 0.5
    if (
        not isinstance(values, list)
        or len(values) != 3
        or not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    ):
        raise ModelError(f"{path} has a mean or deviation that is not of three channels")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _is_usable(value: Any) -> bool:
    """Return whether a value can be a size, a rate or the name of a function."""
    return isinstance(value, str) or 0 < value < _LARGEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _table(document: Mapping[str, Any], key: str, path: object) -> Mapping[str, Any]:
    table = document.get(key) or {}
    if not isinstance(table, Mapping):
        raise ModelError(f"{path} has a {key} that is not an object")
    return table


_Config = TypeVar("_Config", TowerConfig, ResamplerConfig, LanguageConfig)


def _filled(kind: type[_Config], table: Mapping[str, Any], path: object) -> _Config:
    """Read a table's fields; absent ones take the published values."""
    values = {}
    for field in fields(kind):
        if field.name not in table:
            continue
        value, published = table[field.name], field.default
        kinds = (float, int) if isinstance(published, float) else (type(published),)
        unbounded = field.name == "sliding_window" and value is None
        if not unbounded and (
            not isinstance(value, kinds) or isinstance(value, bool) or not _is_usable(value)
        ):
            raise ModelError(f"{path} has a wrong {field.name}: {value!r}")
        values[field.name] = value
    return kind(**values)


def _check(config: XGenMMConfig, path: object) -> None:
    """Check the widths shared by parts and the range of token ids."""
    widths = (
        ("vis_feature_dim", config.resampler.vis_feature_dim, config.tower.hidden_size),
        ("lang_embedding_dim", config.resampler.lang_embedding_dim, config.language.hidden_size),
    )
    for name, found, expected in widths:
        if found != expected:
            raise ModelError(f"{path} has {name} {found} beside a part that is {expected} wide")
    for part, width, heads in (
        ("siglip_vision_config", config.tower.hidden_size, config.tower.num_attention_heads),
        ("text_config", config.language.hidden_size, config.language.num_attention_heads),
        ("text_config", config.language.num_attention_heads, config.language.num_key_value_heads),
    ):
        if width % heads:
            raise ModelError(
                f"{path} has a {part} whose {width} can't be divided among {heads} heads"
            )
    if config.tower.patch_size > config.tower.image_size:
        raise ModelError(f"{path} has patches that are larger than the image")
    first = config.language.initial_tokenizer_len
    if first > config.language.vocab_size:
        raise ModelError(f"{path} has a vocab_size that is less than initial_tokenizer_len")
    added = [config.token_ids[name] for name in ADDED]
    if added != list(range(first, first + len(ADDED))):
        raise ModelError(
            f"{path} has {first} tokens in its main table, yet {IMAGE} has the id {added[0]}"
        )
    for token, number in config.token_ids.items():
        if not _is_whole(number) or not 0 <= number < config.language.merged_size:
            raise ModelError(f"{path} has the id {number!r} for {token}")
