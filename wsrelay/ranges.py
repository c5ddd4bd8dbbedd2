"""Ranges: types of numeric settings with the values that they may have. Pure.

Must not live here: the settings (:mod:`wsrelay.settings`), checking a value (:mod:`wsrelay.option`).
"""

from typing import Annotated, Final

from msgspec import Meta

__all__ = ["MOST_BYTES", "Bytes", "BytesOrDerived", "Count", "CountOrOff", "RateOrOff", "Seconds", "SecondsOrOff"]

Count = Annotated[int, Meta(ge=1, le=2**62)]
CountOrOff = Annotated[int, Meta(ge=0, le=2**62)]
RateOrOff = Annotated[float, Meta(ge=0, le=1e12)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
SecondsOrOff = Annotated[float, Meta(ge=0, le=86400)]
#: Above this a single message would no longer fit what zlib and the kernel take in one piece.
MOST_BYTES: Final = 2**31
Bytes = Annotated[int, Meta(ge=1, le=MOST_BYTES)]
BytesOrDerived = Annotated[int, Meta(ge=0, le=MOST_BYTES)]
