"""A profile's calibration of relevance: a JSON file beside the profile's, `NAME.relevance.json`.

It is no part of a pipeline: fitting it anew changes no stored vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from regard.core.errors import UsageError
from regard.core.records import Target
from regard.core.relevance import Calibration, LogisticModel


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Logistic(_Table):
    constant: FiniteFloat
    weights: dict[str, FiniteFloat]

    def model(self) -> LogisticModel:
        return LogisticModel(self.weights, self.constant)


class _OfTarget(_Table):
    hit: _Logistic
    presence: _Logistic
    cut_off: Annotated[float, Field(ge=0, le=1)]


class _Calibrations(_Table):
    space: str
    image: _OfTarget | None = None
    region: _OfTarget | None = None


def calibration_file(profile_file: Path) -> Path:
    """Where the calibration of the profile in a file lies; nothing need be there."""
    return profile_file.with_suffix(".relevance.json")


def read_calibrations(path: Path) -> Mapping[Target, Calibration]:
    """By target; empty when there is no file. Raises UsageError, which names the place, for a wrong one."""
    try:
        document = _Calibrations.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"the calibration {path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"the calibration {path} is wrong at {where}: {first['msg']}",
            remedy="fit it anew with: regard evaluate relevance --fit",
        ) from error
    tables = {Target.IMAGE: document.image, Target.REGION: document.region}
    return {
        target: Calibration(
            document.space, table.hit.model(), table.presence.model(), table.cut_off
        )
        for target, table in tables.items()
        if table is not None
    }


def write_calibrations(path: Path, calibrations: Mapping[Target, Calibration]) -> None:
    """Write what `read_calibrations` reads, numbers to 5 digits; raises OSError, ValueError when empty."""
    spaces = {calibration.space for calibration in calibrations.values()}
    if len(spaces) != 1:
        raise ValueError("calibrations of one file are of one space")

    def table(model: LogisticModel) -> _Logistic:
        weights = {name: round(weight, 5) for name, weight in model.weights.items()}
        return _Logistic(constant=round(model.constant, 5), weights=weights)

    document = _Calibrations(
        space=spaces.pop(),
        **{
            target.value: _OfTarget(
                hit=table(calibration.hit),
                presence=table(calibration.presence),
                cut_off=round(calibration.cut_off, 4),
            )
            for target, calibration in calibrations.items()
        },
    )
    text = document.model_dump_json(indent=2, exclude_none=True) + "\n"
    path.write_text(text, encoding="utf-8")
