"""Books of findings written by a language model, their review by a clinician, and checks of any book.

`plan` (the missing answers) -> `prompts` (the conversation) -> `client` (the server) -> `answers` (the checks) ->
`cache` (every answer on disk) -> `book` (the result) -> `review` (the clinician's sheet); `generate` runs them
(concept_gen/generate.py). `inspection` and `similarity` check books of any origin (concept_gen/inspect_book.py).
"""


class ConceptError(RuntimeError):
    """An error that ends a run; the message is one line and names the fix."""
