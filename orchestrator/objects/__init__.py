"""Where objects live: the runtime's view of the shared store."""
