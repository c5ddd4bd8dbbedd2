"""The log: lines about connections, failures under an incident id, and observers that write them.

Must not live here: what is counted (stats), what a close means (closecodes). Only ``observers`` touches Twisted's log
observers.
"""
