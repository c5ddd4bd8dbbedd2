"""deploy/, tried: each configuration with the program that reads it, in front of a real relay where it is a proxy's."""
