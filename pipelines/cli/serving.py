"""The command that serves the champion."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from feature_store.tables.contracts import DataError
from pipelines.cli.options import Options, common
from pipelines.registry.champion import model_uri, model_version, uri_of_version
from pipelines.registry.registry import Registry
from pipelines.tracking.client import tracking_uri
from pipelines.workspace.context import RunContext

if TYPE_CHECKING:
    from pipelines.registry.fresh_vectors import FreshVectors


@click.command("serve")
@common
@click.option("--model", metavar="URI", help="models:/NAME@ALIAS, models:/NAME/VERSION or a folder. Default: the champion.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on. Whoever reaches it can ask.")
@click.option("--port", type=click.IntRange(0, 65535), default=5001, show_default=True, help="Port to listen on; 0 takes a free one.")
def serve_command(options: Options) -> None:
    """Check the champion's files against the registry, then answer requests with it: GET /ping, POST /invocations.

    A private copy of the model is checked and served, so what happens to its files afterwards changes nothing; a later champion is served
    by the next start. Nothing is written into the workspace, and a run may go on in it meanwhile. Where the model reads item vectors,
    requests without their product get that of the newest ones, which `ctr-kd refresh` renews under the server. Ctrl-C ends it.

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
    with listen(host, port) as listening, checked_student(registry, uri_of_version(uri, version)) as (student, copy):
        place = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        if not _is_loopback(host):
            run.report(f"warning: everybody who reaches {place} can ask; put something before it that knows its callers", "serve")
        click.echo(f"{uri} (version {version}) was checked and answers at {place}/invocations; Ctrl-C ends it")
        vectors = _vectors_of(run, copy)
        serve(application(student) if vectors is None else application(student, vectors.complete), listening)


def _vectors_of(run: RunContext, model: Path) -> FreshVectors | None:
    """The item vectors that a model reads; None where it reads none, or the workspace has none, which is said."""
    from pipelines.registry.fresh_vectors import FreshVectors
    from pipelines.registry.loaded_model import load_model_folder

    made_as = load_model_folder(model).assembly(run.config.assembly) if run.config.has_dates else None
    if made_as is None or made_as.embeddings is None:
        return None
    vectors = FreshVectors(run.workspace, made_as)
    try:
        vectors.check()
    except DataError as error:
        run.report(f"warning: {error}; requests that carry no embedding_product are scored as those without a history", "serve")
        return None
    return vectors


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
