"""One connection: the transport's side of the relay, from the first byte to the end of TCP.

Must not live here: delivery (rooms), access (validators), plain HTTP requests (http), the process (service, process).
"""
