"""The built-in handshake validators, one file each, and how validators are found by name.

===============  ==========================================================================
``plugins``      names → validators (built-in or anyone's), the ``--validate`` strings
``arguments``    the form of the built-in ones' arguments
``keys``         the keys of ``token``, as its files hold them
``backend``      the connections of ``http``, within bounds of time and size
all the others   one validator each; the name in ``--validate`` is the file's name
===============  ==========================================================================

A new one is a class here and a line in ``twisted/plugins/wsrelay_validators.py``.
"""
