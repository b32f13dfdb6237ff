"""The control plane: a REST API and a web page over the documents of runs in Redis."""
