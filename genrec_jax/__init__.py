"""Semantic-ID generative retrieval in JAX."""
