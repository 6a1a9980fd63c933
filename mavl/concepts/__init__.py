"""Books of findings written by a language model, their review by a clinician, and checks of any book.

`generate` runs concept_gen/generate.py: `plan` (the missing answers) -> `prompts` (the conversation) -> mavl.llm (the
server) -> `answers` (the checks) -> `book` (answers and book on disk); `review` is the clinician's sheet.
`inspection` and `similarity` check books of any origin (concept_gen/inspect_book.py).
"""


class ConceptError(RuntimeError):
    """An error that ends a run; the message is one line and names the fix."""
