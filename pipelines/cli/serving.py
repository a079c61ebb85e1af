"""The command that serves the champion."""

from __future__ import annotations

import ipaddress

import click

from pipelines.cli.options import Options, common
from pipelines.registry.champion import model_uri, model_version, uri_of_version
from pipelines.registry.registry import Registry
from pipelines.tracking.client import tracking_uri


@click.command("serve")
@common
@click.option("--model", metavar="URI", help="models:/NAME@ALIAS, models:/NAME/VERSION or a folder. Default: the champion.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on. Whoever reaches it can ask.")
@click.option("--port", type=click.IntRange(0, 65535), default=5001, show_default=True, help="Port to listen on; 0 takes a free one.")
def serve_command(options: Options) -> None:
    """Check the champion's files against the registry, then answer requests with it: GET /ping, POST /invocations.

    A private copy of the model is checked and served, so what happens to its files afterwards changes nothing; a later champion is served
    by the next start. Nothing is written into the workspace, and a run may go on in it meanwhile. Ctrl-C ends it.

    \b
    Examples:
      ctr-kd serve conf/globo.yaml --workspace work/globo
      ctr-kd serve conf/globo.yaml --workspace work/globo --model models:/globo/3 --port 8080
    """
    from pipelines.registry.http_server import application, checked_student, listen, serve

    config = options.config()
    host, port = options.more["host"], options.more["port"]
    run = options.context(config, read_only=True)
    run.options["model"] = options.more["model"]
    uri = model_uri(run)
    version = model_version(run)
    registry = Registry(tracking_uri(config, options.workspace), config.name)
    with listen(host, port) as listening, checked_student(registry, uri_of_version(uri, version)) as student:
        place = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        if not _is_loopback(host):
            run.report(f"warning: everybody who reaches {place} can ask; put something before it that knows its callers", "serve")
        click.echo(f"{uri} (version {version}) was checked and answers at {place}/invocations; Ctrl-C ends it")
        serve(application(student), listening)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
