"""Bytes on the wire: RFC 6455 frames, and messages as server-sent events.

Must not live here: state, I/O, rooms, anything of Twisted or Autobahn. Pure functions of bytes.
"""
