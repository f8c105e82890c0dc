"""Serving a Gradio page until Ctrl-C."""

from pathlib import Path
from typing import Any

import gradio

from src.common.errors import InputError


def serve_page(
    page: gradio.Blocks, host: str, port: int, share: bool, *, css: Path, says: str, until: str, **more: Any
) -> None:
    """Serve; the address is printed.

    Args:
        share: also at a public address, through Gradio's servers.
        says, until: stand before and behind the address.
        more: further arguments of Gradio's `launch`.
    Raises:
        InputError: the port is taken, or this machine has no such host.
    """
    try:
        _, here, everywhere = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            css_paths=css,
            footer_links=[],
            max_file_size="1kb",  # no page takes files: pictures come within requests
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            **more,
        )
    except OSError as error:
        raise InputError(f"host={host} port={port} can't be served at: {error}") from error
    elsewhere = f", or port {port} of this machine," if host == "0.0.0.0" else ""
    print(f"{says} {everywhere or here}{elsewhere} {until}", flush=True)
    page.block_thread()
