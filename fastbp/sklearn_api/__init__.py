"""The scikit-learn drop-ins: `MLPClassifier` and `MLPRegressor` on the compiled loop.

Imported when `fastbp.MLPClassifier` or `fastbp.MLPRegressor` is first asked for: scikit-learn is an
extra.
"""

from .classifier import MLPClassifier
from .regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
