"""Downloads published models into the hub's cache."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regard.core.errors import ModelError
from regard.models.checkpoints.source import UNWANTED, WANTED, Checkpoint, ModelSource, format_bytes


def missing_bytes(source: ModelSource) -> int:
    """Return the bytes that `fetch` would download; raises ModelError as `fetch` does."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    # Planning takes a moment; its progress bar would look like the download's.
    disable_progress_bars()
    try:
        with _explained(source):
            plan = snapshot_download(
                _id(source),
                revision=source.revision,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
                dry_run=True,
            )
    finally:
        enable_progress_bars()
    return sum(file.file_size or 0 for file in plan if file.will_download)


def require_disk(count: int) -> None:
    """Raise ModelError when the hub's cache has less free space than `count` bytes."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if count > free:
        raise ModelError(
            f"{format_bytes(count)} have to be downloaded to {cache}, which has {format_bytes(free)} free",
            remedy="free space, or set HF_HOME to a folder of a larger disk",
        )


def fetch(source: ModelSource) -> Checkpoint:
    """Download missing files with progress on stderr, resuming an interrupted download.

    Raises ModelError when the hub is unreachable or lacks the model or revision, when its terms
    must be accepted first, and when the weights are not safetensors.
    """
    from huggingface_hub import snapshot_download

    with _explained(source):
        snapshot_download(
            _id(source),
            revision=source.revision,
            allow_patterns=list(WANTED),
            ignore_patterns=list(UNWANTED),
        )
    checkpoint = source.locate()
    checkpoint.weights()
    return checkpoint


def _id(source: ModelSource) -> str:
    assert source.model is not None, "a source without a hub id has nothing to fetch"
    return source.model


@contextmanager
def _explained(source: ModelSource) -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The hub's warnings, one for each retry, would precede the error.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"{source.model} is available only after its terms are accepted",
            remedy="accept them on the model's page, then run: hf auth login",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{source.model} has no revision {source.revision}") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {source.model}, or none that you may read"
        ) from error
    except OfflineModeIsEnabled as error:
        raise ModelError(
            f"{source.model} can't be fetched: the environment forbids the network",
            remedy="unset HF_HUB_OFFLINE",
        ) from error
    except Exception as error:
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise ModelError(
            f"{source.model} can't be fetched: {reason}",
            remedy="check the connection; the same command carries on where it stopped",
        ) from error
