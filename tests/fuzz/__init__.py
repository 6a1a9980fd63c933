"""Malformed inputs for every script, made by code. Not part of the test suite's names: `make fuzz` runs all of them.

`damage` spoils the bytes of a valid file; `targets` says which files each script reads; `__main__` runs the scripts.
"""
