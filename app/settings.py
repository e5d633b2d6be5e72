"""Every option of the service, once: its unit, its default, and what follows from changing it.

Each is an environment variable with the prefix MIXER_ and a flag of `mixer serve` (max_wait_ms: MIXER_MAX_WAIT_MS,
--max-wait-ms). A flag wins over a variable; an empty variable is the default. Choices are taken in any case.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_origin

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.errors import BadSettings
from app.http.prefix import OWN_PATHS, is_prefix
from app.system.environment import Variables
from model.errors import FlagError
from model.flags import parse

ENV_PREFIX = "MIXER_"
FORM_BYTES = 64 << 10  # boundaries, part headers and small fields around a picture

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}  # for a typer command whose flags `parse` reads

_ORIGIN = re.compile(r"\*|https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")  # as browsers write it
_SHIPPED_BUNDLE = Path(__file__).resolve().parent.parent / "bundles" / "fashion-mnist"


class Settings(BaseSettings):
    """Options of the service. Times end in _s or _ms, sizes in _bytes or _pixels."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid", cli_kebab_case=True)

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. 0.0.0.0 makes the service reachable from other machines.",
    )
    port: int = Field(default=8000, ge=1, le=65535, description="TCP port to listen on.")
    admin_host: str = Field(
        default="127.0.0.1",
        description="Address of the port for operators. Anything else than this machine's own makes it reachable from "
        "other machines.",
    )
    admin_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="TCP port for operators: /metrics and /admin are served there and no longer on the public port, "
        "which then tells less of what runs, too. 0: no such port.",
    )
    root_path: str = Field(
        default="",
        description="Path below which clients see the service, as /mixer, where a proxy does not say so in "
        "X-Forwarded-Prefix; requests are answered with it and without it. Empty: none.",
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Processes that share the port. Each has the model and a queue of its own; limits, metrics and "
        "readiness are those of all. 0: on a CPU as many as keep every usable CPU busy, 16 at most; one on a GPU.",
    )
    bundle: Path = Field(
        default=_SHIPPED_BUNDLE,
        description="Folder with fp32.onnx, fp16.onnx or int8.onnx, or one .onnx file; or a folder of such folders, "
        "each of which is then served under its name, with instances and memory of its own.",
    )
    default_model: str = Field(
        default="",
        description="Name of the bundle that answers where a request names none. Empty: the only one, or the first by "
        "name.",
    )
    precision: Literal["auto", "fp32", "fp16", "int8"] = Field(
        default="auto",
        description="Which graph of the bundle runs. auto: fp16 on a GPU; on a CPU int8 where it is faster and exact, "
        "else fp32. /model says why. An int8 graph that this processor computes wrongly is refused.",
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        default="auto",
        description="ONNX Runtime execution provider. cuda and tensorrt refuse to start without a GPU; auto takes cuda "
        "or falls back to the CPU. tensorrt builds its engine at the first start, which takes minutes.",
    )
    device_id: int = Field(default=0, ge=0, le=255, description="Which GPU, as CUDA counts them.")
    gpu_memory_bytes: int = Field(
        default=0,
        ge=0,
        le=1 << 39,
        description="Most GPU memory in bytes for one instance's weights and activations; what does not fit stops the "
        "start. 0: no limit.",
    )
    tensorrt_cache: Path | None = Field(
        default=None,
        description="Folder that keeps TensorRT's engines. Not set: mixer-serve/tensorrt in the user's cache folder.",
    )
    instances: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Runs side by side in a worker. 0: on a CPU as many as keep its share of the usable CPUs busy, two "
        "on a GPU.",
    )
    intra_op_threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="CPU threads of one run. More than 1 lowers latency and costs throughput. 0: a worker's share of "
        "the usable CPUs is shared out among its instances; with instances 0, 1.",
    )
    decode_threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Threads of a worker that decode pictures. 0: one for each CPU of its share.",
    )
    decode_cpu_limit_s: float = Field(
        default=4,
        gt=0,
        le=3600,
        description="Processor seconds that decoding one picture may take. One that takes more gets 400, and costs its "
        "process: that answers what it has for 3 s more, ends with exit code 1, and is replaced, while other workers "
        "serve. Honest files take tenths of a second, hostile ones up to 2 s on a fast machine; a slow one needs more.",
    )
    max_batch_size: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Most pictures in one run. Larger helps a GPU; on a CPU it adds latency, and costs speed where a "
        "run no longer fits the cache. 0: as many as do on a CPU, 64 on a GPU.",
    )
    max_wait_ms: float = Field(
        default=0,
        ge=0,
        le=10_000,
        description="How long a first picture waits for company, in ms. 0: a free instance takes what waits at once.",
    )
    queue_capacity: int = Field(
        default=512,
        ge=1,
        le=1_000_000,
        description="Pictures inside the whole service at once (decoding, waiting, running), over all workers and "
        "models; one more is refused with 429.",
    )
    request_timeout_s: float = Field(
        default=30, gt=0, le=3600, description="A request not answered within this many seconds gets 504."
    )
    body_timeout_s: float = Field(
        default=30, gt=0, le=3600, description="A body that has not arrived within this many seconds gets 504."
    )
    drain_timeout_s: float = Field(
        default=10,
        gt=0,
        le=3600,
        description="After SIGTERM, seconds for accepted requests to finish; the rest get 503.",
    )
    keep_alive_timeout_s: int = Field(
        default=65, ge=1, le=3600, description="Seconds an idle connection stays open; more than the load balancer's."
    )
    max_connections: int = Field(
        default=2048,
        ge=1,
        le=1_000_000,
        description="Open connections of the whole service, over all workers; one more gets 503 at once.",
    )
    canary_interval_s: float = Field(
        default=10,
        gt=0,
        le=3600,
        description="Seconds between checks that a stored picture gets its stored answer; else /health/ready is 503.",
    )
    watchdog_s: float = Field(
        default=30,
        gt=0,
        le=3600,
        description="A worker whose event loop stands still, or one of whose runs does not end, for this many seconds "
        "is replaced (15 minutes, or 20 times as long, while it starts); a service without workers ends with exit code "
        "1.",
    )
    max_image_bytes: int = Field(
        default=20 << 20, ge=1, le=1 << 30, description="Largest picture file in bytes; a larger one gets 413."
    )
    max_image_pixels: int = Field(
        default=50_000_000,
        ge=1,
        le=178_000_000,  # beyond this Pillow itself refuses
        description="Most pixels a picture may declare, checked before decoding. decode_memory_bytes binds first, "
        "except for JPEG.",
    )
    decode_memory_bytes: int = Field(
        default=350_000_000,
        ge=1 << 20,
        le=1 << 36,
        description="Memory that all decoding of the whole service may take at once, over all workers; others wait, "
        "and a picture that needs more than half of it gets 413. The default is enough for an RGB PNG of 12 million "
        "pixels; a large JPEG takes little.",
    )
    reduced_scale: bool = Field(
        default=True,
        description="Decode large JPEGs at a half, a quarter or an eighth of their size, where that is still larger "
        "than what the model sees. false: at full size, which takes several times as long and rarely changes answers.",
    )
    max_images_per_request: int = Field(
        default=64, ge=1, le=4096, description="Most pictures in one /classify/batch; more get 413."
    )
    max_request_bytes: int = Field(
        default=64 << 20,
        ge=1,
        le=1 << 31,
        description="Largest body of /classify/batch in bytes; a larger one gets 413.",
    )
    upload_memory_bytes: int = Field(
        default=128 << 20,
        ge=1,
        le=1 << 36,
        description="Most bytes of request bodies that the whole service holds, over all workers, from their first "
        "byte to their answer; beyond it uploads get 429.",
    )
    api_keys: SecretStr = Field(
        default=SecretStr(""),
        description="API keys, KEY or NAME:KEY, separated by commas; sha256:HEX, a key's digest, may stand for it. "
        "Empty: no key is asked for.",
    )
    api_keys_file: Path | None = Field(
        default=None, description="File with one API key a line, as in api_keys and beside them; # begins a comment."
    )
    admin_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys for operators, as in api_keys; they open /admin and nothing else. Empty: /admin is closed.",
    )
    admin_keys_file: Path | None = Field(
        default=None, description="File with one key for operators a line, beside admin_keys."
    )
    protect_metrics: bool = Field(default=False, description="Whether /metrics needs a key for operators, too.")
    cors_origins: str = Field(
        default="",
        description="Origins whose pages may use the service from a browser, as https://shop.example, separated by "
        "commas; * means all. Empty: none.",
    )
    tls_cert_file: Path | None = Field(
        default=None,
        description="File with the certificate chain in PEM, read again at a reload; the service then speaks HTTPS "
        "only, on both its ports.",
    )
    tls_key_file: Path | None = Field(
        default=None, description="File with the certificate's key in PEM. Not set: it is in tls_cert_file."
    )
    tls_key_password: SecretStr = Field(
        default=SecretStr(""), description="Password of that key. Empty: it is not encrypted."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="How log lines look.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged; access lines are info."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is said in the code, then variables; flags are before both."""
        return init_settings, Variables(settings_cls)

    @field_validator("*", mode="before")
    @classmethod
    def _choices_in_any_case(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        return value.lower() if get_origin(kind) is Literal and isinstance(value, str) else value

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if self.max_images_per_request > self.queue_capacity:
            raise ValueError(
                f"max_images_per_request is {self.max_images_per_request}; "
                f"expected at most queue_capacity {self.queue_capacity}."
            )
        largest_bytes = max(self.max_image_bytes, self.max_request_bytes) + FORM_BYTES
        if self.upload_memory_bytes < largest_bytes:
            raise ValueError(
                f"upload_memory_bytes is {self.upload_memory_bytes}; expected at least {largest_bytes}, the larger of "
                f"max_image_bytes and max_request_bytes, and {FORM_BYTES} for a form around it."
            )
        return self

    @model_validator(mode="after")
    def _doors_have_their_keys(self) -> Self:
        if self.protect_metrics and not self.admin_keys.get_secret_value() and self.admin_keys_file is None:
            raise ValueError("protect_metrics is true, and no key opens them; expected admin_keys or admin_keys_file.")
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError(f"tls_key_file is {self.tls_key_file}; expected tls_cert_file beside it.")
        return self

    @field_validator("root_path")
    @classmethod
    def _is_below_no_path_of_the_service(cls, path: str) -> str:
        plain = path.removesuffix("/")
        if plain and not is_prefix(plain):
            raise ValueError(f"{path} is no path of plain names; expected one as /mixer or /vision/mixer.")
        if plain.split("/")[1:2] and plain.split("/")[1] in OWN_PATHS:
            raise ValueError(f"{path} begins as a path of the service itself does; expected another one.")
        return plain

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, listed: str) -> str:
        for origin in _split(listed):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin} is no origin; expected *, or as in https://shop.example:8443.")
        return listed

    @property
    def origins(self) -> tuple[str, ...]:
        """Those of cors_origins."""
        return _split(self.cors_origins)


def _split(listed: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in listed.split(",") if item.strip())


def load(flags: Sequence[str] = ()) -> Settings:
    """Settings from the flags given and the environment. Raises BadSettings, with one line."""
    try:
        return parse(Settings, flags, "mixer serve")
    except FlagError as error:
        raise BadSettings(str(error)) from error
