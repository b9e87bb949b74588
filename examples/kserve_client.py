"""Calls this service with KServe's REST and gRPC clients, unmodified (`pip install kserve`).

python examples/kserve_client.py http://127.0.0.1:3000 127.0.0.1:3001
"""

from __future__ import annotations

import asyncio
import sys

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

TEXTS = ["정말 재미있어요", "돈이 아깝다"]


def request(data: list[str] | list[bytes]) -> InferRequest:
    """A call of `sentiment`."""
    return InferRequest("sentiment", [InferInput("text", [len(data)], "BYTES", data=data)], request_id="42")


async def main(url: str, address: str) -> None:
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    print("REST live:", await rest.is_server_live(url), "ready:", await rest.is_server_ready(url))
    answer = await rest.infer(url, request(TEXTS), model_name="sentiment")
    print("REST sentiment:", answer.outputs[0].data)  # this client drops the version
    await rest.close()

    async with InferenceGRPCClient(address) as client:
        print("gRPC live:", await client.is_server_live(), "ready:", await client.is_model_ready("sentiment"))
        answer = await client.infer(request([text.encode() for text in TEXTS]))
        print("gRPC sentiment:", [label.decode() for label in answer.outputs[0].data], "version", answer.model_version)


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["http://127.0.0.1:3000", "127.0.0.1:3001"])))
