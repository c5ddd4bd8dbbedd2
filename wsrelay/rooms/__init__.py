"""Rooms: a bounded log of messages per room, and a cursor per subscriber.

Pure: no I/O, no clock; times and writes are passed in. Must not live here: connections, sockets, handshakes, other
processes, anything of Twisted or Autobahn.
"""
