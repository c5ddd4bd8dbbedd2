"""Backplanes carry messages between the processes that serve one room; one file each.

Must not live here: rooms and delivery (:mod:`wsrelay.rooms`); messages of other processes enter by ``Hub.publish``.
"""
