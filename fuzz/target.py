"""What a target of the fuzzers is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: for the command line and the folders.
        title: what it shows, for people.
        check: raises an AssertionError where the octets of an input break a promise; whatever else it raises is a
            find as well.
        inputs: Hypothesis' way to make inputs.
        seeds: name → input, from which every run starts.
        words: what inputs are made of; atheris' dictionary.
        max_bytes: of an input.
    """

    name: str
    title: str
    check: Callable[[bytes], None]
    inputs: st.SearchStrategy[bytes]
    seeds: Mapping[str, bytes]
    words: Sequence[bytes]
    max_bytes: int
