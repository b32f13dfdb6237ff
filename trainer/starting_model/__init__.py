"""The starting model of a run: finding, downloading and checking it, or the warm start that trains the built-in one."""
