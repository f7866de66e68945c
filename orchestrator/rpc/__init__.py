"""How processes of different machines speak to each other. Knows `common` only.

Nothing here is imported by drivers and workers; grpc and cryptography are imported where they are needed, so
that reading a join string or a deadline costs neither.
"""
