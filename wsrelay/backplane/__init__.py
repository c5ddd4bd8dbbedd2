"""Backplanes carry messages between the processes that serve one room.

:mod:`wsrelay.backplane.local` is the one of a single process, :mod:`wsrelay.backplane.redis` the one with a broker; the
other modules are its parts.

Must not live here: rooms and delivery (:mod:`wsrelay.rooms`); messages of other processes enter by ``Hub.publish``.
"""
