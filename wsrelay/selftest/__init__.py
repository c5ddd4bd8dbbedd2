"""``wsrelay selftest``: tries any relay over the network, as a client: what it keeps, and what it does otherwise.

One case is a row of a table: what is expected, by which source, and a function that tries it (``cases``, which joins
the tables of ``opening``, ``delivery``, ``sizes``, ``control``, ``compression``, ``violations``, ``slow``,
``refusals`` and ``endings``). A case gets a :class:`wsrelay.selftest.lab.Lab`, which opens connections to the one
server and ends them. Must not live here: the relay's side of anything; the command line (:mod:`wsrelay.commands`).
"""
