"""One connection: the transport's side of the relay, from the first byte to the end of TCP.

Must not live here: who gets a message (rooms), who may come in (validators), what is served over plain HTTP (http),
what the process does (service, process).
"""
