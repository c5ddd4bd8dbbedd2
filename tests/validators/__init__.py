"""The tests of the built-in handshake validators, one module each."""
