"""Text encoders by library, and what their folders declare; `mavl.text.encoder` loads them by name."""
