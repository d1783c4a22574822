"""Recordings: naming them, reading them, splitting them, making and changing them."""
