"""The table of `models.py`: rows printed as they are measured, and kept for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import transformers
from measuring import Call, Floor, Machine, Timing, count_operations, timed

from regard.core.errors import ModelError
from regard.core.machine import usable_cores


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One figure. `floor` is in seconds a call; `operations` are those of a call."""

    what: str
    rate: float | None = None
    unit: str = ""
    seconds: float | None = None
    floor: float | None = None
    operations: float | None = None
    peak: int | None = None
    note: str = ""


class Report:
    """Rows, printed when they come, with the machine that they were measured on."""

    def __init__(self, machine: Machine, limit: float, stream: Any) -> None:
        """`limit`: seconds that a figure may be repeated for; `stream` is where the table goes."""
        self.machine = machine
        self.placement = machine.placement
        self.rows: list[Row] = []
        self._limit = limit
        self._stream = stream
        self._print(
            f"{machine.name}, {self.placement.dtype}, {usable_cores()} cores: "
            f"matrix products {machine.matrix_rate / 1e12:.4g} TFLOP/s, "
            f"copies {machine.bandwidth / 1e9:.4g} GB/s"
        )
        self._print(_line("", "rate", "ms a call", "floor ms", "÷ floor", "of rate", "peak GB"))

    def add(self, row: Row) -> None:
        """Keep a row and print it."""
        self.rows.append(row)
        share = self.share(row)
        self._print(
            _line(
                row.what,
                "" if row.rate is None else f"{row.rate:.4g} {row.unit}",
                "" if row.seconds is None else f"{1e3 * row.seconds:.4g}",
                "" if not row.floor else f"{1e3 * row.floor:.3g}",
                "" if not row.floor or row.seconds is None else f"{row.seconds / row.floor:.3g}",
                "" if share is None else f"{share:.1%}",
                "" if row.peak is None else f"{row.peak / 1e9:.2f}",
                row.note,
            )
        )

    def share(self, row: Row) -> float | None:
        """Part of the measured matrix rate that a row's operations came to."""
        if not row.operations or not row.seconds:
            return None
        return row.operations / row.seconds / self.machine.matrix_rate

    def figure(
        self,
        what: str,
        call: Call,
        items: int,
        unit: str,
        *,
        moved: float = 0.0,
        note: str = "",
    ) -> Row | None:
        """Count a call's operations, time it, and add its row; None where it did not fit into
        memory."""

        def measure() -> Row:
            operations = count_operations(call)
            timing = self.timed(call)
            floor = self.machine.seconds(Floor(operations, moved))
            rate = items / timing.seconds
            return Row(what, rate, unit, timing.seconds, floor, operations, timing.peak, note)

        row: Row | None = self.fitting(what, measure)
        if row is not None:
            self.add(row)
        return row

    def timed(self, call: Call) -> Timing:
        """See `measuring.timed`."""
        return timed(call, self.placement, self._limit)

    def fitting(self, what: str, measure: Callable[[], Any]) -> Any:
        """What `measure` returns; None, and a row that says so, where memory ran out."""
        try:
            return measure()
        except (torch.cuda.OutOfMemoryError, ModelError) as error:
            note = str(error).strip().splitlines()[0]
        self.add(Row(what, note=f"did not run: {note}"))
        if self.placement.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def document(self) -> dict[str, Any]:
        """All of it, for JSON: seconds, bytes, operations."""
        rows = [{**dataclasses.asdict(row), "of_matrix_rate": self.share(row)} for row in self.rows]
        return {
            "device": self.machine.name,
            "dtype": str(self.placement.dtype),
            "cores": usable_cores(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "matrix_operations_per_second": self.machine.matrix_rate,
            "copied_bytes_per_second": self.machine.bandwidth,
            "rows": rows,
        }

    def _print(self, line: str) -> None:
        print(line.rstrip(), file=self._stream, flush=True)


def _line(
    what: str, rate: str, call: str, floor: str, over: str, share: str, peak: str, note: str = ""
) -> str:
    return f"{what:44}{rate:>22}{call:>11}{floor:>10}{over:>9}{share:>9}{peak:>9}  {note}"
