"""The vLLM engine of a generator: sampling, and weights that are replaced while it samples."""
