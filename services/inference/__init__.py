"""The vLLM engine of a generator: sampling, and loading weights while it samples."""
