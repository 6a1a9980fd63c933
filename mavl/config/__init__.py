"""Typed settings: YAML files and command lines in, one resolved configuration out."""
