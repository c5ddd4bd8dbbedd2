"""The ``wsrelay`` command: a table of commands (main), and one module for each.

A module has ``SUMMARY``, ``configure`` and ``run``, see :class:`wsrelay.commands.main.Module`; it is imported only when
its command runs. Nothing imports this package. Must not live here: the relay's options (:mod:`wsrelay.tap`), anything
that the relay needs.
"""
