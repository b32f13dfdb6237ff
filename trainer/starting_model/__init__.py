"""The model that a run starts from: found, downloaded, checked, or made by the warm start."""
