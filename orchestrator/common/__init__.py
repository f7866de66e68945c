"""What every layer may use: values and rules, without I/O."""
