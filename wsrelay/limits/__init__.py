"""Limits on what clients may use: connections (admission), rates, memory.

Pure: no I/O, no clock; times are passed in. Must not live here: limits of one message or one room's log, which are
checked where they are read (connection, rooms).
"""
