"""Concepts: a language model turns names of findings into whole books of descriptions and aspects.

`prompts` (what is asked) -> `client` (the server) -> `answers` (is it usable?) -> `cache` (nothing is paid for twice)
-> `ensemble` (the most central of several answers) -> `book` (what predict.py and the evaluations read) -> `review` (a
clinician's sheet). `generate` runs them; `concept_gen/generate.py` is the command.
"""
