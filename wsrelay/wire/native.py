"""``parse`` and ``send_all``: compiled, or else in pure Python.

Compiled is the extension module ``wsrelay._native``, which an installation without a compiler does not have, and which
cannot be imported while the environment has ``WSRELAY_PURE=1``. Must not live here: either of the two.
"""

from typing import Final

try:
    from wsrelay._native import parse, send_all
except ImportError:
    from wsrelay.wire.pure import parse, send_all

__all__ = ["IS_COMPILED", "parse", "send_all"]

#: Whether both are compiled.
IS_COMPILED: Final = parse.__module__ == "wsrelay._native"
