"""Names that a program imports from Ray's package of this name."""
