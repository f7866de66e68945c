"""What programs take from Ray's package of this name although it is not meant for them."""
