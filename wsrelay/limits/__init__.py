"""Limits on connections (admission), rates and memory.

Pure: no I/O, no clock; times are passed in. Must not live here: limits of one message (connection) or of one room's
log (rooms).
"""
