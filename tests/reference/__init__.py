"""Slow, plain float64 versions of what the package computes fast; none imports the package."""
