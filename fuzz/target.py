"""The interface of a target."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: for the command line and folders.
        title: its invariant, for reports.
        check: raises AssertionError if an input breaks an invariant; any other exception is a find as well.
        inputs: strategy of inputs for Hypothesis.
        seeds: name → input; the start of each run.
        words: dictionary for atheris.
        max_bytes: maximum size of an input.
    """

    name: str
    title: str
    check: Callable[[bytes], None]
    inputs: st.SearchStrategy[bytes]
    seeds: Mapping[str, bytes]
    words: Sequence[bytes]
    max_bytes: int
