def is_plain(value: object) -> bool:
    """True for None, bool, int, float, str, bytes and tuples, lists and dicts of them: exact types, few, short."""
