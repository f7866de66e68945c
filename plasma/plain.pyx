"""Is a value made of exact builtins only, and small? Then the C pickler alone may save it.

Anything else might hold a function of ``__main__``, an array or a reference, and needs the extensible pickler,
whose set-up alone costs several times as much as a whole small message. The test runs before every message, so
it is compiled: some 30 ns for the arguments of a usual call, where a Python loop takes 500.
"""

# A value with more items goes to the extensible pickler, whose fixed cost (~2 us) no longer matters then.
# Bounds the recursion, too: a self-containing list runs out of budget instead of stack.
cdef enum:
    ITEMS_MAX = 1024
    # Bytes and strings from this length on are stored without joining them to a message first.
    LENGTH_MAX = 65536


cdef int _spend(object value, int budget):
    """The budget left after ``value`` and all it contains; negative if it isn't plain or the budget is gone."""
    cdef object item
    budget -= 1
    if value is None or value is True or value is False or type(value) is int or type(value) is float:
        return budget
    if type(value) is str:
        return budget if len(<str>value) < LENGTH_MAX else -1
    if type(value) is bytes:
        return budget if len(<bytes>value) < LENGTH_MAX else -1
    if type(value) is tuple:
        for item in <tuple>value:
            if budget <= 0:
                return -1
            budget = _spend(item, budget)
        return budget
    if type(value) is list:
        for item in <list>value:
            if budget <= 0:
                return -1
            budget = _spend(item, budget)
        return budget
    if type(value) is dict:
        for key, item in (<dict>value).items():
            if budget <= 0:
                return -1
            budget = _spend(key, budget)
            if budget <= 0:
                return -1
            budget = _spend(item, budget)
        return budget
    return -1


def is_plain(value) -> bool:
    """True for None, bool, int, float, str, bytes and tuples, lists and dicts of them: exact types, few, short."""
    return _spend(value, ITEMS_MAX) >= 0
