"""What Voila needs to serve the app: named by ``voila.json``, imported by the server before it reads its templates."""

import os
from pathlib import Path

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from voila.tornado import kernel_websocket_handler
from voila.tornado.handler import TornadoVoilaHandler

QUICK_KERNEL = ["--IPKernelApp.kernel_class=digits.kernel.Kernel", "--IPKernelApp.outstream_class=digits.kernel.Stream"]

_read_header = kernel_websocket_handler.read_header_from_binary_message
_prepare = TornadoVoilaHandler.prepare


def read_header(message: bytes) -> dict | None:
    """The header of a frame of the v1 protocol; None for any other frame.

    A client that does not ask for the protocol gets frames of another layout. Voila reads a count of up to 2**64 from
    them and loops that often, which ends the server; a real count fits into its frame.
    """
    count = int.from_bytes(message[:8], "little")
    return _read_header(message) if 8 * (count + 1) <= len(message) else None


async def prepare(handler: TornadoVoilaHandler) -> None:
    """Before a page is made: set the cookie without which the page's farewell, which ends its kernel, is refused."""
    await _prepare(handler)
    handler.xsrf_token  # noqa: B018  reading it sets the cookie


def install() -> None:
    """Put both in their places and let Voila find the app's page template in ``jupyter/``."""
    kernel_websocket_handler.read_header_from_binary_message = read_header
    TornadoVoilaHandler.prepare = prepare
    folder = str(Path(__file__).parent / "jupyter")
    known = os.environ.get("JUPYTER_PATH", "")
    if folder not in known.split(os.pathsep):
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (folder, known)))


class KernelManager(AsyncMappingKernelManager):
    """One kernel for each visitor, of the kind in ``digits.kernel``. What Voila adds to it (a pool) it adds itself."""

    async def start_kernel(self, **options) -> str:
        """Start one; ``options`` as in jupyter_server."""
        return await super().start_kernel(**{"extra_arguments": QUICK_KERNEL, **options})


install()
