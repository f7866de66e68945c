"""The messages between a submitter and a worker.

To N, and from it, go JSON objects; everything else is a pickled tuple, so the first byte tells.

Tasks (lane WORK), from the submitter; `key` is a function's key or a method's name:

    (seq, key, args)                                               plain arguments, one return value
    (seq, key, args, kwargs, blob, stored, resolved, options)      anything else

`blob` holds the pickled (args, kwargs), `stored` the id of an object that does; `resolved` lists
(position or keyword, kind, value) of the references that were replaced.

Replies (lane CONTROL), from the worker, with the time the run took in µs:

    (seq, kind, value, us)               kind is a state of the entry, or one of those below

Other messages (lane CONTROL) begin with one of the names below.

A message that is too long for a channel is an object of the store, and this goes in its stead:

    (seq, LONG, id)          a task
    (LONG, id)               anything on lane CONTROL; the reference is the receiver's
"""

from __future__ import annotations

#: Kinds of replies beyond the states of an entry (PLAIN, BLOB, STORED, ERROR).
MANY = 5  # value: a list of (kind, value), one per return value
ITEM = 6  # value: (index, kind, value) of a generator's item; more replies follow
END = 7  # value: the number of items of a generator
CANCELLED = 8
PARTIAL = 9  # value: (a list of (kind, value), the error of the results after those)

#: Stands for a message that is in the store. No method of an actor can have this name.
LONG = "<long>"

#: The number of a call that nobody waits for: the constructor of an actor that is restarted.
NOBODYS_SEQ = 0

# From a worker.
RETURNED = "returned"  # [seqs]: its task waits, so these queued ones come back
UNBLOCKED = "unblocked"
RETIRED = "retired"  # seq, [seqs]: it ends after the task `seq`; these queued ones come back
PROGRESS = "progress"  # {state of a progress bar}: to the driver, which shows it
# To a worker.
CANCEL = "cancel"  # seq, recursive
CANCEL_OBJECT = "cancel_object"  # id, force, recursive: the task of an object that the receiver owns
GIVE_BACK = "give_back"  # what it has not begun, because what it runs takes long; from another node
CONSUMED = "consumed"  # seq, count: items of a generator that were taken
RECOVER = "recover"  # id: an object this process owns is missing
CHECK_HANDLES = "check_handles"  # some process dropped its last handle of the actor that lives there

PROTOCOL = 5
