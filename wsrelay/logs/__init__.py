"""The log: lines about connections, failures under an incident id, observers that write them, and the log file.

Must not live here: counters (stats), close codes (closecodes). Only ``observers`` and ``writer`` touch log observers.
"""
