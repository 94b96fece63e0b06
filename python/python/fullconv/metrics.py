"""How well predicted classes agree with labels."""

from typing import Any

import numpy as np

from . import _fullconv
from .errors import ShapeError


class ConfusionMatrix(_fullconv.Confusion):
    """Counts of pixels by true and predicted class, over any number of pictures.

        matrix = fullconv.ConfusionMatrix(21)
        matrix.add(labels, segmenter(picture))
        matrix.mean_iou, matrix.iou(15), matrix.counts

    A metric is None where there is nothing to measure. Classes that do not occur are left out of the means.
    """

    def add(self, truth: Any, predicted: Any) -> None:
        """Counts the pixels of arrays of one shape. Labels that are no class (255, -1, 11 of 11) are void and left out,
        whatever the prediction. Raises `ShapeError` if a prediction is no class; nothing is counted then."""
        truth, predicted = np.asarray(truth), np.asarray(predicted)
        if truth.shape != predicted.shape:
            raise ShapeError(f"labels of shape {truth.shape} do not fit predictions of shape {predicted.shape}")
        classes = self.class_count
        for name, array in (("labels", truth), ("predictions", predicted)):
            if not np.issubdtype(array.dtype, np.integer):
                raise TypeError(f"{name} are {array.dtype}, and ids are integers")
        is_class = (truth >= 0) & (truth < classes)
        truth, predicted = truth[is_class], predicted[is_class]
        wrong = predicted[(predicted < 0) | (predicted >= classes)]
        if wrong.size:
            raise ShapeError(f"class {wrong[0]} is predicted, but the labels have only {classes} classes")
        self.count_pixels(truth.astype(np.uint8), predicted.astype(np.uint8))

    def merge(self, other: "ConfusionMatrix") -> None:
        """Adds the counts of `other`, which has as many classes."""
        self.add_counts(other)

    @property
    def counts(self) -> np.ndarray:
        """The pixels of class i that are predicted as j, at [i, j]: uint64, (classes, classes)."""
        return np.array(self.all_counts(), np.uint64).reshape(self.class_count, self.class_count)

    def __repr__(self) -> str:
        iou = self.mean_iou
        return f"ConfusionMatrix({self.class_count}), {self.pixels} pixels" + (f", mean IoU {iou:.3f}" if iou is not None else "")
