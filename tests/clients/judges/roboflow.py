"""Roboflow's inference-sdk."""

from typing import Any

from inference_sdk import InferenceConfiguration, InferenceHTTPClient


def _client(api_url: str, version: str, **configuration: Any) -> InferenceHTTPClient:
    client = InferenceHTTPClient(api_url=api_url, api_key="any")
    {"v0": client.select_api_v0, "v1": client.select_api_v1, "": lambda: client}[version]()
    client.configure(InferenceConfiguration(**configuration))
    return client


def infer(api_url: str, paths: list[str], model_id: str, version: str = "", **configuration: Any) -> list[Any]:
    """An answer for each file. `version`: v0 or v1 of the client's ways; else its own choice."""
    sent = paths if len(paths) > 1 else paths[0]
    answer = _client(api_url, version, **configuration).infer(sent, model_id=model_id)
    return answer if isinstance(answer, list) else [answer]


async def infer_async(api_url: str, paths: list[str], model_id: str) -> list[Any]:
    return await _client(api_url, "").infer_async(paths, model_id=model_id)


def models(api_url: str) -> list[list[str]]:
    return [[one.model_id, one.task_type] for one in _client(api_url, "").list_loaded_models().models]
