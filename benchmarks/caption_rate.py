"""Captions a second, step by step: tiles cut, the tower, the prompt read, the tokens after the
first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from measuring import Floor, bytes_of, count_operations
from report import Report, Row

from regard.core.records import Image
from regard.models.xgenmm.captioner import XGenMMCaptioner
from regard.models.xgenmm.model import XGenMM

_NEW_TOKENS = 32


class CaptionRate:
    """Measures captioners over one model, each of another batch size."""

    def __init__(
        self, report: Report, captioner_of: Callable[..., XGenMMCaptioner], model: XGenMM
    ) -> None:
        """`captioner_of` makes a captioner over `model` with the parameters that are named."""
        self._report = report
        self._captioner_of = captioner_of
        # torch says of no module what its attributes are.
        self._model: Any = model

    def measure(self, images: Sequence[Image]) -> None:
        """The steps of one batch, then the whole, whose floor is the sum of theirs."""
        report, batch = self._report, len(images)
        what = f"captions, batch {batch}"
        captioner = self._captioner_of(batch_size=batch, max_new_tokens=_NEW_TOKENS)
        prepared = report.timed(lambda: [captioner.prepare(image) for image in images])
        report.add(
            Row(f"{what}: cut into tiles", batch / prepared.seconds, "images/s", prepared.seconds)
        )
        steps = self._steps(what, captioner, images)
        if steps is None:
            return
        whole = report.fitting(what, lambda: report.timed(lambda: captioner.caption(images)))
        if whole is not None:
            floor = sum(step.floor or 0 for step in steps)
            operations = sum(step.operations or 0 for step in steps)
            rate, note = batch / whole.seconds, steps[-1].note
            report.add(
                Row(what, rate, "captions/s", whole.seconds, floor, operations, whole.peak, note)
            )

    def _steps(
        self, what: str, captioner: XGenMMCaptioner, images: Sequence[Image]
    ) -> list[Row] | None:
        """The rows of tower, prompt and further tokens; None where one did not fit."""
        report, model, batch = self._report, self._model, len(images)
        tiles = [captioner.prepare(image) for image in images]
        pixels = torch.cat([item.pixels for item in tiles])  # (sum of 1 + tiles, 3, b, b)
        counts, sizes = [len(item.pixels) for item in tiles], [item.size for item in tiles]
        first_token = self._captioner_of(batch_size=batch, max_new_tokens=1)
        looked = report.figure(
            f"{what}: tower",
            lambda: captioner.features(pixels),
            len(pixels),
            "tiles/s",
            moved=float(bytes_of(model.tower)) * -(-len(pixels) // batch),
        )
        if looked is None:
            return None
        features = torch.split(captioner.features(pixels), counts)
        language = float(bytes_of(model.language) - bytes_of(model.language.get_input_embeddings()))
        read = report.figure(
            f"{what}: prompt read, one token",
            lambda: first_token.caption_features(features, sizes),
            batch,
            "prompts/s",
            moved=language + bytes_of(model.resampler),
        )
        if read is None:
            return None
        row = report.fitting(
            f"{what}: further tokens",
            lambda: self._decoding(what, captioner, (features, sizes), read, language),
        )
        if row is None:
            return None
        report.add(row)
        return [looked, read, row]

    def _decoding(
        self,
        what: str,
        captioner: XGenMMCaptioner,
        seen: tuple[Any, Any],
        read: Row,
        language: float,
    ) -> Row:
        """All tokens but the first, by difference: each reads the weights, and keys and values so
        far."""
        report, config = self._report, self._model.config.language
        item = report.placement.item_bytes
        width = config.hidden_size * config.num_key_value_heads / config.num_attention_heads
        with _watched(self._model.language) as passes:
            operations = count_operations(lambda: captioner.caption_features(*seen))
        timing = report.timed(lambda: captioner.caption_features(*seen))
        prompts, steps, tokens, kept, length = 0, 0, 0, 0, 0
        for rows, positions in passes:
            if positions > 1:  # a prompt; each pass after it is one more token of its rows
                prompts, length = prompts + 1, positions
                continue
            kept += rows * min(length, config.sliding_window or length)
            steps, tokens, length = steps + 1, tokens + rows, length + 1
        cached = 2 * config.num_hidden_layers * width * item * kept
        seconds = timing.seconds - (read.seconds or 0)
        beyond = operations - (read.operations or 0)
        return Row(
            f"{what}: further tokens",
            tokens / seconds if seconds > 0 else None,
            "tokens/s",
            seconds,
            report.machine.seconds(Floor(beyond, steps * language + cached)),
            beyond,
            timing.peak,
            f"{steps / prompts + 1:.3g} tokens after a prompt of {passes[0][1]}"
            + (f", in {prompts} pieces to fit into memory" if prompts > 1 else ""),
        )


@contextmanager
def _watched(language: torch.nn.Module) -> Iterator[list[tuple[int, int]]]:
    """Rows and positions of each pass through the language model, in order: one a new token."""
    passes: list[tuple[int, int]] = []

    def note(_: Any, __: Any, named: dict[str, Any], ___: Any) -> None:
        given = named.get("inputs_embeds")
        given = named["input_ids"] if given is None else given
        passes.append((int(given.shape[0]), int(given.shape[1])))

    handle = language.register_forward_hook(note, with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()
