"""The tests of wsrelay: one module for each of the package's, and what runs real processes and clients."""
