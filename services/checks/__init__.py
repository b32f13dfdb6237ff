"""`scope doctor`: what a configuration needs, and every check that would make its run fail, before it fails."""
