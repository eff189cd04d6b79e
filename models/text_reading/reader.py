"""Reads text with PP-OCRv6 by RapidOCR: finds lines, turns them upright, reads their letters.

Each call uses one thread, because calls run in parallel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.core.errors import MissingDependency
from regard.core.records import Image
from regard.core.texts import TextLine
from regard.models.checkpoints.pinned import PinnedFile
from regard.models.text_reading.weights import DETECTION, DIRECTION, RECOGNITION, RapidParameters

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# From this height, as a multiple of its width, a line is read from top to bottom.
_UPRIGHT = 1.5


class RapidReader:
    """See `regard.core.texts.Reader`."""

    def __init__(self, parameters: RapidParameters) -> None:
        """Raises MissingDependency, or ModelError for other weights than those pinned."""
        try:
            import cv2
            from rapidocr import RapidOCR
        except ImportError as error:
            raise MissingDependency(
                "the package rapidocr, which reads text, is not installed or incomplete",
                remedy=f"run: pip install {DETECTION.requirement}",
            ) from error
        cv2.setNumThreads(1)
        self._ocr = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.text_score": parameters.least_confidence,
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "EngineConfig.onnxruntime.enable_cpu_mem_arena": True,
                "Det.limit_type": "max",
                "Det.limit_side_len": parameters.detection_side,
                # With paths, nothing is ever downloaded.
                "Det.model_path": _verified(DETECTION),
                "Cls.model_path": _verified(DIRECTION),
                "Rec.model_path": _verified(RECOGNITION),
            }
        )
        # The detection is made on first use.
        self._ocr(np.zeros((64, 64, 3), np.uint8))
        detector: Any = self._ocr.text_det
        self.detection = detector.session.session = _detection_session()

    def read(self, images: Sequence[Image]) -> list[list[TextLine]]:
        """See `Reader.read`."""
        return [self._read(image) for image in images]

    def _read(self, image: Image) -> list[TextLine]:
        import cv2

        found: Any = self._ocr(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2BGR))
        if found.boxes is None:
            return []
        rows = zip(found.boxes, found.txts, found.scores, strict=True)
        lines = [_to_line(*row) for row in rows]
        return [line for line in lines if line.text]


def _to_line(box: Any, text: str, score: float) -> TextLine:
    first, second, third, fourth = np.asarray(box).round().astype(int).tolist()
    if math.dist(second, third) >= _UPRIGHT * math.dist(first, second):
        # It is read from top to bottom, as RapidOCR turns it.
        first, second, third, fourth = second, third, fourth, first
    corners = tuple(first), tuple(second), tuple(third), tuple(fourth)
    return TextLine(" ".join(text.split()), corners, float(score))


def _detection_session() -> InferenceSession:
    """The detection with its subnormal weights set to 0: equal results in a third of the time.

    Half of the weights in two of its layers are subnormal, and a CPU takes a hundred times as long
    to multiply these.
    """
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    model = onnx.load_from_string(DETECTION.read())
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            weights = onnx.numpy_helper.to_array(tensor).copy()
            weights[np.abs(weights) < np.finfo(np.float32).smallest_normal] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _verified(file: PinnedFile) -> str:
    file.map().close()
    return str(file.locate())
