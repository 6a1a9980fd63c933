"""A local server, and the client as concept generation uses it."""

from tests.support.generation import environment, plan, prompts, run, server, start

__all__ = ["environment", "plan", "prompts", "run", "server", "start"]
