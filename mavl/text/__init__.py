"""The words: books of descriptions and aspects, the text encoder, and the embeddings made of both."""
