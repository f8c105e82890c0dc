"""Serve a Gradio page until Ctrl-C."""

from pathlib import Path
from typing import Any

import gradio

from src.common.errors import InputError


def serve_page(
    page: gradio.Blocks, host: str, port: int, share: bool, *, css: Path, name: str, **launch_options: Any
) -> None:
    """Print the address and what is served, `name`, and serve until Ctrl-C.

    Raises:
        InputError: the port is in use, or this machine does not have the host.
    """
    try:
        _, local_url, share_url = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            css_paths=css,
            footer_links=[],
            max_file_size="1kb",  # pages upload no files: images are sent within requests
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            **launch_options,
        )
    except OSError as error:
        raise InputError(f"can't serve at host={host} port={port}: {error}") from error
    elsewhere = f" (from other machines: port {port} of this machine)" if host == "0.0.0.0" else ""
    print(f"serving {name} at {share_url or local_url}{elsewhere}; press Ctrl-C to stop", flush=True)
    page.block_thread()
