"""Serves a schema as a Terraform plugin: enough of protocol 6 for init, validate and `terraform test` with mocks.

Terraform starts it like any provider that it finds in its mirror, with the Python of the environment that has
`tf` (the protocol's messages). It knows types and no Azure: it cannot be configured, so nothing is planned
without a mock.

    python azurerm_server.py SCHEMA.json
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from concurrent import futures
from threading import Event
from typing import Any

import grpc  # type: ignore[import-untyped]
from tf.gen import (  # type: ignore[import-not-found]
    grpc_controller_pb2,
    grpc_controller_pb2_grpc,
    grpc_stdio_pb2_grpc,
    tfplugin_pb2,
    tfplugin_pb2_grpc,
)
from tf.runner import _self_signed_cert  # type: ignore[import-not-found]

CORE, PROTOCOL = 1, 6
"""What the first line says that is printed: the versions of the handshake and of the protocol."""

Nested = tfplugin_pb2.Schema.NestedBlock


def block(described: dict[str, Any]) -> Any:
    """Return a block as a message."""
    return tfplugin_pb2.Schema.Block(
        attributes=[
            tfplugin_pb2.Schema.Attribute(
                name=name,
                type=json.dumps(it["type"]).encode(),
                required=it["required"],
                optional=it["optional"],
                computed=it["computed"],
            )
            for name, it in sorted(described["attributes"].items())
        ],
        block_types=[
            Nested(type_name=name, block=block(it), nesting=Nested.LIST, min_items=it["least"], max_items=it["most"])
            for name, it in sorted(described["blocks"].items())
        ],
    )


def schema(described: dict[str, Any]) -> Any:
    """Return a type as a message."""
    return tfplugin_pb2.Schema(version=0, block=block(described))


class Provider(tfplugin_pb2_grpc.ProviderServicer):  # type: ignore[misc]
    """Answers what Terraform asks before it plans."""

    def __init__(self, described: dict[str, Any]) -> None:
        self._schema = tfplugin_pb2.GetProviderSchema.Response(
            provider=schema(described["provider"]),
            resource_schemas={name: schema(it) for name, it in described["resources"].items()},
            data_source_schemas={name: schema(it) for name, it in described["data"].items()},
            server_capabilities=tfplugin_pb2.ServerCapabilities(get_provider_schema_optional=True),
        )

    def GetProviderSchema(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return self._schema

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return tfplugin_pb2.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return tfplugin_pb2.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return tfplugin_pb2.ValidateDataResourceConfig.Response()

    def StopProvider(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return tfplugin_pb2.StopProvider.Response()


class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):  # type: ignore[misc]
    """Is told to end."""

    def __init__(self, ended: Event) -> None:
        self._ended = ended

    def Shutdown(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        self._ended.set()
        return grpc_controller_pb2.Empty()


class Output(grpc_stdio_pb2_grpc.GRPCStdioServicer):  # type: ignore[misc]
    """Has nothing to say."""

    def StreamStdio(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return iter(())


def serve(described: dict[str, Any]) -> None:
    """Serve until Terraform says that it has had enough, or is gone."""
    ended, parent = Event(), os.getppid()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    tfplugin_pb2_grpc.add_ProviderServicer_to_server(Provider(described), server)
    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(Controller(ended), server)
    grpc_stdio_pb2_grpc.add_GRPCStdioServicer_to_server(Output(), server)
    with tempfile.TemporaryDirectory() as folder:
        chain, credentials = _self_signed_cert()
        socket = f"{folder}/socket"
        server.add_secure_port(f"unix://{socket}", credentials)
        server.start()
        shown = base64.b64encode(chain).decode().rstrip("=")
        print("|".join([str(CORE), str(PROTOCOL), "unix", socket, "grpc", shown]), flush=True)
        while not ended.wait(1) and os.getppid() == parent:
            pass  # Terraform has neither said that it is done nor died
        server.stop(0).wait()


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        serve(json.load(file))
