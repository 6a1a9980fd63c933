"""Runs of concept generation against a local server."""

from tests.support.generation import environment, plan, prompts, run, server, start

__all__ = ["environment", "plan", "prompts", "run", "server", "start"]
