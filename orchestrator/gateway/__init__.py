"""How the processes of one node talk to those of another: only node processes speak the network.

    process ─ channel ─▶ stand-in │ gateway ─ link ─▶ gateway │ stand-in ─ channel ─▶ process

A process of another node appears here as a *stand-in*, a client of this node's store that the node process
holds. Whoever sends to its address needs not know where it leads. `gateway` carries what arrives for a
stand-in to the node of the process it stands for, over a *link* (`link`, `stream`, `frames`, `handshake`);
what arrives over a link is sent on by the stand-in of whoever it is from. `directory` knows the objects whose
home or whose bytes are on another node.
"""
