"""Invariants of the containers in this package, as the model tests check them after every step.

Must not live here: the invariants themselves (the ``check`` of each class).
"""

from collections.abc import Mapping

__all__ = ["require"]


def require(holds: Mapping[str, bool]) -> None:
    """Raise ``AssertionError`` with the text of each invariant that does not hold.

    Args:
        holds: what would be wrong → whether all is well.
    """
    wrong = [text for text, is_well in holds.items() if not is_well]
    if wrong:
        raise AssertionError("; ".join(wrong))
