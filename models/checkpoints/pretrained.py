"""Loads a checkpoint and its processor with transformers' own classes for one task.

Refuses code from the checkpoint, pickles, and missing tensors, which transformers would only
report and initialise at random.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from regard.core.errors import MissingDependency, ModelError
from regard.models.checkpoints.load_errors import guarded
from regard.models.checkpoints.memory import available_memory
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import CONFIG, Checkpoint
from regard.models.checkpoints.tensors import TensorFiles

# Buffers that models create and old checkpoints contain.
_REMADE = re.compile(r".*\.(position_ids|inv_freq)")
# Without any of these, transformers silently makes a tokenizer without a vocabulary.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json", "*.model")
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p", "max_length", "min_length")


class Task(StrEnum):
    """What a model is for, as transformers calls it."""

    IMAGE_TEXT = "image-text-to-text"
    DETECTION = "zero-shot-object-detection"


# The names of transformers' tables of model classes.
_TABLES = {
    Task.IMAGE_TEXT: "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
    Task.DETECTION: "MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING",
}


def require_supported(checkpoint: Checkpoint, task: Task) -> None:
    """Raise ModelError unless transformers itself has a model of this type for the task."""
    from transformers.models.auto import modeling_auto

    config = checkpoint.config()
    found = config.get("model_type")
    if isinstance(found, str) and found in getattr(modeling_auto, f"{_TABLES[task]}_NAMES"):
        return
    where = checkpoint.path / CONFIG
    if "auto_map" in config:
        raise ModelError(
            f"{where} describes a model that needs its own code ({found!r}), which regard never runs",
            remedy="choose a model that transformers has itself",
        )
    raise ModelError(
        f"{where} describes a model of type {found!r}, "
        f"which is not a model of transformers for {task}",
        remedy="choose another model",
    )


def load_processor(checkpoint: Checkpoint, settings: Mapping[str, bool | int | float]) -> Any:
    """Load the checkpoint's processor with changed settings of its image processor.

    Raises MissingDependency when it needs an absent package, ModelError when its files are
    incomplete or a setting is unknown.
    """
    import transformers

    if not any(next(checkpoint.path.glob(name), None) for name in _VOCABULARIES):
        checkpoint.require(_VOCABULARIES[0])
    automatic: Any = transformers.AutoProcessor

    def load() -> Any:
        try:
            with _quiet():
                return automatic.from_pretrained(
                    checkpoint.path, local_files_only=True, trust_remote_code=False
                )
        except ImportError as error:
            needed = " ".join(str(error).split()).partition(". ")[0]
            raise MissingDependency(
                f"the processor of {checkpoint.path} can't be made here: {needed}",
                remedy="install that package, or choose another model",
            ) from error

    processor = guarded(load, f"the processor of {checkpoint.path}")
    images = getattr(processor, "image_processor", None)
    if images is None or not hasattr(processor, "tokenizer"):
        raise ModelError(f"{checkpoint.path} has no processor of images and texts")
    for name, value in settings.items():
        if name not in images.to_dict():
            raise ModelError(f"the image processor of {checkpoint.path} has no setting {name}")
        setattr(images, name, value)
    return processor


def check_model(checkpoint: Checkpoint, placement: Placement, task: Task) -> int:
    """Compare keys and shapes with the model's without reading weights; return its element count.

    Raises ModelError when the config is incomplete or keys differ. Skips the comparison when
    memory could not hold the model, because missing tensors would be allocated.
    """
    import torch
    import transformers

    require_supported(checkpoint, task)
    tensors = TensorFiles(checkpoint.weights())
    shapes = tensors.shapes
    auto: Any = transformers.AutoConfig
    models: Any = getattr(transformers, _TABLES[task])

    def build() -> tuple[Any, Any, Any]:
        with _quiet():
            config = auto.from_pretrained(
                checkpoint.path, local_files_only=True, trust_remote_code=False
            )
            kind = models[type(config)]
            with torch.device("meta"):
                return config, kind, kind(config)

    where = f"the model that {checkpoint.path / CONFIG} describes"
    config, kind, empty = guarded(build, where)
    numbers: int = max(tensors.parameters, sum(weight.numel() for weight in empty.parameters()))
    if numbers * placement.item_bytes > available_memory():
        return numbers
    # Old checkpoints have names that transformers changes while it loads. Let it load: not the
    # tensors, but one number in the shape of each.
    number = torch.zeros((), dtype=placement.dtype)

    def rehearse() -> Any:
        with _quiet():
            return kind.from_pretrained(
                None,
                config=config,
                state_dict={name: number.expand(shape) for name, shape in shapes.items()},
                dtype=placement.dtype,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )

    _, report = guarded(rehearse, where)
    _require_whole(checkpoint, report)
    return numbers


def load_model(checkpoint: Checkpoint, placement: Placement, task: Task) -> Any:
    """Load the model onto the device; raises ModelError for missing or unexpected keys."""
    import transformers

    require_supported(checkpoint, task)
    # Report damage by file name before transformers meets it.
    assert TensorFiles(checkpoint.weights()).shapes

    auto: Any = transformers.AutoConfig
    models: Any = getattr(transformers, _TABLES[task])

    def load() -> Any:
        with _quiet():
            config = auto.from_pretrained(
                checkpoint.path, local_files_only=True, trust_remote_code=False
            )
            return models[type(config)].from_pretrained(
                checkpoint.path,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                dtype=placement.dtype,
                ignore_mismatched_sizes=True,  # otherwise the library's error names no key
                output_loading_info=True,
            )

    model, report = guarded(load, f"the model of {checkpoint.path}")
    _require_whole(checkpoint, report)
    _decide(model)
    model = model.to(placement.device).eval().requires_grad_(False)
    if placement.device.type == "cpu":
        # Memory-mapped tensors would change or vanish with the file.
        for weight in (*model.parameters(), *model.buffers()):
            weight.data = weight.data.clone()
    return model


def _require_whole(checkpoint: Checkpoint, report: Mapping[str, Any]) -> None:
    parts = []
    for kind, word in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "unknown"),
        ("mismatched_keys", "of another shape"),
    ):
        keys = sorted(_names(report.get(kind) or ()))
        if keys:
            parts.append(f"{len(keys)} {word}, such as {keys[0]}")
    if parts:
        raise ModelError(
            f"{checkpoint.path} has other keys than its model: {'; '.join(parts)}",
            remedy="fetch the model again, or choose another model",
        )


def _names(keys: Iterable[Any]) -> Iterator[str]:
    """Format mismatched keys with both shapes."""
    for key in keys:
        name = key if isinstance(key, str) else str(key[0])
        if not _REMADE.fullmatch(name):
            yield name


def _decide(model: Any) -> None:
    """Disable sampling, whatever the model's files suggest."""
    for module in model.modules():
        generation = getattr(module, "generation_config", None)
        if generation is not None:
            generation.do_sample = False
            for name in _SAMPLING:
                if hasattr(generation, name):
                    setattr(generation, name, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress transformers' progress bars and reports; problems raise errors."""
    from transformers.utils import logging as its_logging

    logging: Any = its_logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
