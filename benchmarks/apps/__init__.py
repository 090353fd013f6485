"""The other side of each comparison: small servers that a person would write today."""
