"""The built-in handshake validators, one file each, and the chain that runs them.

===============  ==========================================================================
``chain``        runs the validators of a handshake
``plugins``      names → validators (built-in or installed), the ``--validate`` strings
``arguments``    the syntax of the built-in validators' arguments
``keys``         the key files of ``token``
``backend``      the HTTP requests of ``http``, with limits on time and size
``probe``        the credentials of the readiness probe
all others       one validator each, named after its file
===============  ==========================================================================

A new one is a class here and a line in ``twisted/plugins/wsrelay_validators.py``. Must not live here: parsing requests
and writing responses (:mod:`wsrelay.http`).
"""
