"""Where machines come from. `provider` says what is expected of each kind; `local` makes processes here."""
