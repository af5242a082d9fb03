"""Ports for processes that must be told theirs. Standard library only."""

import random
import socket

# Below the ports that the system gives to outgoing connections: one stays free while nobody listens at it yet, or for a
# while. In an order of chance: other runs on the machine look for theirs as well.
PORTS = iter(random.SystemRandom().sample(range(21_000, 32_000), 11_000))

# The UDP sockets of the ports that were given away. Nobody needs those; each keeps other runs off its port until this
# process ends, also while nobody listens at it.
claims: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Ports to be kept over restarts; none is given twice, not to other processes that ask here either."""
    found: list[int] = []
    for port in PORTS:
        if claim(port):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free port")


def claim(port: int) -> bool:
    """Takes the port for this process, unless another one has it or listens at it."""
    mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            mine.bind(("127.0.0.1", port))
            probe.bind(("127.0.0.1", port))
        except OSError:
            mine.close()
            return False
    claims.append(mine)
    return True
