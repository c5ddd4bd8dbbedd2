"""The log: lines about connections, failures under an incident id, and observers that write them.

Must not live here: counters (stats), close codes (closecodes). Only ``observers`` touches Twisted's log observers.
"""
