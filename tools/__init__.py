"""The tools around it: what is used before, beside or instead of the sidecar."""
