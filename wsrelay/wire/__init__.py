"""Bytes on the wire: RFC 6455 frames, messages as server-sent events, and one buffer to many ``send``s.

Must not live here: state, I/O of its own, rooms, anything of Twisted or Autobahn. Pure functions of bytes; the
compiled ones are in ``wsrelay._native``.
"""
