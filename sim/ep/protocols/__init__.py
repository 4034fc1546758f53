"""The protocols, one file each: what each moves, what it costs, what its buffers take.

A new one is a file here with ``PROTOCOLS``, a tuple of `protocol.Protocol` records. Only these files name protocols.
"""

#: What a deployment uses that names none.
DEFAULT = "low-latency"
