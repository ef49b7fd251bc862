"""The features of a linear model, in one order for good."""

from collections.abc import Hashable
from typing import Any

from river import base


class Terms(base.Transformer):
    """A constant 1 under the name `one`, then the named features that are there; without names, all of them.

    River's `Select` holds its names in a set, so the order of the features, and with it the last bits of every sum over
    them, changes from one process to the next. River's `BayesianLinearRegression` has no intercept, and raises
    ValueError when the first `x` that it learns is empty.

    Parameters
    ----------
    names
        The features to keep, in this order.

    Examples
    --------
    >>> Terms("b", "a").transform_one({"a": 1.0, "b": 2.0, "c": 3.0})
    {'one': 1.0, 'b': 2.0, 'a': 1.0}

    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def transform_one(self, x: dict[Hashable, Any]) -> dict[Hashable, Any]:
        """The kept features of one hour."""
        return {"one": 1.0} | {name: x[name] for name in self.names or x if name in x}

    def of(self, features: tuple[str, ...]) -> tuple[str, ...]:
        """The features that come out when any of these go in."""
        return ("one", *(name for name in self.names or features if name in features))
