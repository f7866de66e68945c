"""The place of spilling to disk, which this version doesn't do.

A store that is full evicts what nobody references (``eviction``), then answers ``ObjectStoreFullError``.
Spilling comes between the two: referenced but unpinned objects, oldest first, move to files and the table
keeps their entry. What is reserved for it already:

* the state ``SPILLED`` in the memory format (``layout``) and in :meth:`Store.state`;
* its two transitions in ``lifecycle``, SEALED → SPILLED → SEALED, of which the table of transitions has none
  yet;
* the point where ``create_buffer`` has found neither free nor evictable memory, just before it waits or gives
  up.
"""
