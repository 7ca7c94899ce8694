"""KMDN: a head and a tail network that teach each other."""
