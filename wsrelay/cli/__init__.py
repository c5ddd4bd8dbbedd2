"""The command line: the table of options, and the help, man page, completion and effective settings made from it.

Must not live here: reading argv, environment or files (tap), ranges and defaults (settings).
"""
