"""The routes of the control plane, one module per resource, and the files of the web page."""
