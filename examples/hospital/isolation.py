# SPDX-License-Identifier: Apache-2.0
"""A network and a list of processes of the program's own: nothing in it can be reached, and nothing outlives it.

Orthanc 1.10 listens on every address of its network, whatever its configuration says. In a network namespace the only
address is the loopback address of this namespace. A listening socket that was made outside stays outside, and is the
one way in.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def listen(port: int) -> socket.socket:
    """A socket on a port of the loopback address.

    Args:
        port: 0 takes a free one.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def run_isolated(module: str, arguments: Sequence[str], listener: socket.socket) -> NoReturn:
    """Replaces this process by a module that runs in namespaces; its last argument is the number of the socket.

    Args:
        module: name of the module.
        arguments: of the module.
        listener: the way in.
    """
    listener.set_inheritable(True)
    command = [*UNSHARE, sys.executable, "-m", module, *arguments, "--listener", str(listener.fileno())]
    os.execvp(command[0], command)


def raise_loopback() -> None:
    """Brings up the loopback interface, which is down in a new namespace."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def let_in(listener: socket.socket, port: int) -> None:
    """Relays connections of the socket to a port of the namespace, in a thread, for as long as the program runs.

    Args:
        listener: socket that was made outside.
        port: of a server inside.
    """
    threading.Thread(target=asyncio.run, args=[_relay(listener, port)], daemon=True).start()


async def _relay(listener: socket.socket, port: int) -> None:
    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        inner_writer.close()
        writer.close()

    server = await asyncio.start_server(join, sock=listener)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):  # a browser that goes away
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
