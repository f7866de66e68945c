"""The runtime inside every driver and every worker."""
