"""Every option of the service, once: its unit, its default, and what follows from changing it.

Each is an environment variable with the prefix MIXER_ and a flag of `mixer serve` (max_wait_ms: MIXER_MAX_WAIT_MS,
--max-wait-ms). A flag wins over a variable; an empty variable is the default. Choices are taken in any case.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from app.dialects.names import ALL, NAMES, NONE
from app.errors import BadSettings
from app.options import Count, Dialects, Options, Origins, PlatformRoute, RootPath, Seconds, split
from model.errors import FlagError
from model.flags import Word, parse

ENV_PREFIX = "MIXER_"
FORM_BYTES = 64 << 10  # boundaries, part headers and small fields around a picture

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}  # for a typer command whose flags `parse` reads

_SHIPPED_BUNDLE = Path(__file__).resolve().parent.parent / "bundles" / "clothes"


class Settings(Options):
    """Options of the service. Times end in _s or _ms, sizes in _bytes or _pixels."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX)

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. 0.0.0.0 makes the service reachable from other machines.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=8000, description="TCP port to listen on; where this is not set, AIP_HTTP_PORT of Vertex AI is read."
    )
    admin_host: str = Field(
        default="127.0.0.1",
        description="Address of the port for operators. Anything else than this machine's own makes it reachable from "
        "other machines.",
    )
    admin_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0,
        description="TCP port for operators: /metrics and /admin are served there and no longer on the public port, "
        "which then tells less of what runs, too. 0: no such port.",
    )
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0,
        description="TCP port on which the Open Inference Protocol is spoken over gRPC, at MIXER_HOST, with the same "
        "keys, limits and certificate; needs the extra grpc. 0: no such port.",
    )
    root_path: RootPath = Field(
        default="",
        description="Path below which clients see the service, as /mixer, where a proxy does not say so in "
        "X-Forwarded-Prefix; requests are answered with it and without it. Empty: none.",
    )
    workers: Count = Field(
        default=0,
        description="Processes that share the port. Each has the model and a queue of its own; limits, metrics and "
        "readiness are those of all. 0: on a CPU as many as keep every usable CPU busy, 16 at most; one on a GPU.",
    )
    pin_workers: bool = Field(
        default=False,
        description="Whether each of several workers keeps to CPUs of its own, an equal share of those that the "
        "service may use. For CPUs that do nothing else: a thread that moves to another one finds cold caches there.",
    )
    bundle: Annotated[Path, Word("MODEL")] = Field(
        default=_SHIPPED_BUNDLE,
        description="Folder with fp32.onnx, fp16.onnx or int8.onnx, or one .onnx file; or a folder of such folders, "
        "each of which is then served under its name, with instances and memory of its own. timm:NAME, "
        "google:FOLDER/NAME, hf-hub:ORG/REPO@REVISION, a file of weights or a checkpoint folder is made into a bundle "
        "first, once (docs/checkpoints.md).",
    )
    bundle_key: Path | None = Field(
        default=None,
        description="File with a public key in PEM (P-256, P-384 or P-521) whose owner has signed every bundle, as "
        "mixer sign does; one that is not what was signed stops the start, and is refused by a reload. Needs the extra "
        "signing. Not set: bundles need no signature.",
    )
    model_name: Annotated[str, Field(max_length=253, pattern=r"^[^/\x00-\x20\x7f]*$")] = Field(
        default="",
        description="Name by which clients ask for the only bundle. Empty: its folder's.",
    )
    default_model: str = Field(
        default="",
        description="Name of the bundle that answers where a request names none. Empty: the only one, or the first by "
        "name.",
    )
    shadow: Path | None = Field(
        default=None,
        description="A second model that is tried on live traffic: a bundle or what one is made of, as for bundle, or "
        "the name of one in a folder of bundles. It runs pictures that the default model has answered, too, where "
        "nothing else is to be done, and /metrics says how its answers differ. It takes the memory of one more model. "
        "Not set: none.",
    )
    shadow_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.1,
        description="Share of the default model's pictures that the shadow is to run, too, at random; what there is no "
        "time for is dropped and counted.",
    )
    shadow_answers: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0,
        description="Share of clients that the shadow answers in place of the default model, where their request names "
        "no model. A client is who shows a key, with X-Client-ID where that is sent; without both, each request is "
        "one. The shadow then has as many instances as the model; where 5 of its last 100 pictures fail, it answers no "
        "more.",
    )
    precision: Literal["auto", "fp32", "fp16", "int8"] = Field(
        default="auto",
        description="Which graph of the bundle runs. auto: fp16 on a GPU; on a CPU int8 where it is faster and exact, "
        "else fp32. /model says why. An int8 graph that this processor computes wrongly is refused.",
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        default="auto",
        description="ONNX Runtime execution provider. cuda and tensorrt refuse to start without a GPU; auto takes "
        "cuda or falls back to the CPU. tensorrt builds its engine at the first start, which takes minutes.",
    )
    device_id: Annotated[int, Field(ge=0, le=255)] = Field(default=0, description="Which GPU, as CUDA counts them.")
    gpu_memory_bytes: Annotated[int, Field(ge=0, le=1 << 39)] = Field(
        default=0,
        description="Most GPU memory in bytes for one instance's weights and activations; what does not fit stops the "
        "start. 0: no limit.",
    )
    tensorrt_cache: Path | None = Field(
        default=None,
        description="Folder that keeps TensorRT's engines. Not set: mixer-serve/tensorrt in the user's cache folder.",
    )
    instances: Count = Field(
        default=0,
        description="Runs side by side in a worker. 0: on a CPU as many as keep its share of the usable CPUs busy, "
        "two on a GPU.",
    )
    intra_op_threads: Count = Field(
        default=0,
        description="CPU threads of one run. More than 1 lowers latency and costs throughput. 0: a worker's share of "
        "the usable CPUs is shared out among its instances; with instances 0, 1.",
    )
    decode_threads: Count = Field(
        default=0,
        description="Threads of a worker that decode pictures. 0: one for each CPU of its share. On a CPU, small "
        "JPEGs and PNGs are decoded by the thread of their run, unless these threads are more than the instances.",
    )
    decode_cpu_limit_s: Seconds = Field(
        default=4,
        description="Processor seconds that decoding one picture may take. One that takes more gets 400, and costs "
        "its process: that answers what it has for 3 s more, ends with exit code 1, and is replaced, while other "
        "workers serve. Honest files take tenths of a second, hostile ones up to 2 s on a fast machine; a slow one "
        "needs more.",
    )
    max_batch_size: Annotated[int, Field(ge=0, le=4096)] = Field(
        default=0,
        description="Most pictures in one run. Larger helps a GPU; on a CPU it adds latency, and costs speed where a "
        "run no longer fits the cache. 0: as many as do on a CPU, 64 on a GPU.",
    )
    max_wait_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(
        default=0,
        description="How long a first picture waits for company, in ms. 0: a free instance takes what waits at once.",
    )
    queue_capacity: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=512,
        description="Pictures inside the whole service at once (decoding, waiting, running), over all workers and "
        "models; one more is refused with 429.",
    )
    request_timeout_s: Seconds = Field(
        default=30, description="A request not answered within this many seconds gets 504."
    )
    body_timeout_s: Seconds = Field(
        default=30, description="A body that has not arrived within this many seconds gets 504."
    )
    drain_delay_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=0,
        description="After SIGTERM, seconds in which requests are taken as before, each answered with Connection: "
        "close, while /health/ready is 503: load balancers and clients that keep connections go elsewhere meanwhile. "
        "A second signal ends the delay. 0: the drain begins at once.",
    )
    drain_timeout_s: Seconds = Field(
        default=10,
        description="After SIGTERM and drain_delay_s, seconds for accepted requests to finish; the rest get 503.",
    )
    keep_alive_timeout_s: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=65, description="Seconds an idle connection stays open; more than the load balancer's."
    )
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=2048, description="Open connections of the whole service, over all workers; one more gets 503 at once."
    )
    canary_interval_s: Seconds = Field(
        default=10,
        description="Seconds between checks that a stored picture gets its stored answer; else /health/ready is 503.",
    )
    watchdog_s: Seconds = Field(
        default=30,
        description="A worker whose event loop stands still, or one of whose runs does not end, for this many seconds "
        "is replaced (15 minutes, or 20 times as long, while it starts); a service without workers ends with exit "
        "code 1.",
    )
    max_image_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = Field(
        default=20 << 20, description="Largest picture file in bytes; a larger one gets 413."
    )
    max_image_pixels: Annotated[int, Field(ge=1, le=178_000_000)] = Field(  # beyond that Pillow itself refuses
        default=50_000_000,
        description="Most pixels a picture may declare, checked before decoding. decode_memory_bytes binds first, "
        "except for JPEG.",
    )
    decode_memory_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 36)] = Field(
        default=350_000_000,
        description="Memory that all decoding of the whole service may take at once, over all workers; others wait, "
        "and a picture that needs more than half of it gets 413. The default is enough for an RGB PNG of 12 million "
        "pixels; a large JPEG takes little.",
    )
    reduced_scale: bool = Field(
        default=True,
        description="Decode large JPEGs at a half, a quarter or an eighth of their size, where that is still larger "
        "than what the model sees. false: at full size, which takes several times as long and rarely changes answers.",
    )
    max_images_per_request: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=64, description="Most pictures in one /classify/batch; more get 413."
    )
    max_request_bytes: Annotated[int, Field(ge=1, le=1 << 31)] = Field(
        default=64 << 20, description="Largest body of /classify/batch in bytes; a larger one gets 413."
    )
    upload_memory_bytes: Annotated[int, Field(ge=1, le=1 << 36)] = Field(
        default=128 << 20,
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
    dialects: Dialects = Field(
        default=ALL,
        description="Which protocols of other services are spoken on the port besides the service's own, by name, "
        "separated by commas (docs/protocols.md has them); all or none.",
    )
    health_route: PlatformRoute = Field(
        default="",
        description="One more path that tells whether the service is ready, for GET, as Vertex AI wants it: where this "
        "is not set, AIP_HEALTH_ROUTE is read. Empty: none. Not without vertex among the dialects.",
    )
    predict_route: PlatformRoute = Field(
        default="",
        description="One more path that takes instances and answers with predictions, for POST, as Vertex AI wants it: "
        "where this is not set, AIP_PREDICT_ROUTE is read. Empty: none. Not without vertex among the dialects.",
    )
    cors_origins: Origins = Field(
        default="",
        description="Origins whose pages may use the service from a browser, as https://shop.example, separated by "
        "commas; * means all. Empty: none.",
    )
    page: bool = Field(
        default=True,
        description="Whether browsers get a page at / on which pictures can be tried without a terminal. false: they "
        "are sent to /docs.",
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
    collect_dir: Path | None = Field(
        default=None,
        description="Folder, made where it is missing, in which pictures that a rule chooses are kept with their "
        "answers, for POST /feedback and for training. Not set: nothing is kept, and no rule may be set.",
    )
    collect_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0,
        description="Rule: keep this share of all pictures, at random; only these tell how often the service is right.",
    )
    collect_below_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0, description="Rule: keep pictures whose most probable label is less probable than this."
    )
    collect_classes: str = Field(
        default="",
        description="Rule: keep pictures whose most probable label is one of these, separated by commas.",
    )
    collect_uncertain: bool = Field(
        default=False,
        description="Rule: keep pictures whose answer is uncertain by the model's own energy threshold, if it has one.",
    )
    collect_max_images: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=10_000, description="Most pictures in collect_dir; beyond it new ones are not kept."
    )
    collect_max_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 39)] = Field(
        default=1 << 30, description="Most bytes in collect_dir; beyond it new pictures are not kept."
    )
    collect_max_days: Annotated[int, Field(ge=0, le=36_500)] = Field(
        default=30,
        description="Days after which a kept picture is deleted with its answer and its label. 0: never.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="How log lines look.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged; access lines are info."
    )

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
        if self.grpc_port and self.grpc_port in (self.port, self.admin_port):
            raise ValueError(f"grpc_port is {self.grpc_port}, which is port or admin_port, too; expected another one.")
        if self.grpc_port and self.tls_key_password.get_secret_value():
            raise ValueError(f"grpc_port is {self.grpc_port}, and gRPC opens no encrypted key; expected a plain one.")
        return self

    @model_validator(mode="after")
    def _answers_have_a_shadow(self) -> Self:
        if self.shadow_answers and self.shadow is None:
            raise ValueError(f"shadow_answers is {self.shadow_answers}, and there is no shadow; expected shadow, too.")
        return self

    @model_validator(mode="after")
    def _rules_have_a_folder(self) -> Self:
        rules = ("collect_share", "collect_below_probability", "collect_classes", "collect_uncertain")
        given = [f"{rule} is {getattr(self, rule)}" for rule in rules if getattr(self, rule)]
        if self.collect_dir is None and given:
            raise ValueError(f"{given[0]}, and no pictures are kept; expected collect_dir beside it.")
        if self.collect_dir is not None and not given:
            raise ValueError(f"collect_dir is {self.collect_dir}, and no rule chooses; expected {' or '.join(rules)}.")
        return self

    @property
    def spoken(self) -> tuple[str, ...]:
        """The dialects that are spoken."""
        names = split(self.dialects)
        return NAMES if names == (ALL,) else () if names == (NONE,) else names

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins in cors_origins."""
        return split(self.cors_origins)


def load(flags: Sequence[str] = ()) -> Settings:
    """Settings from the flags given and the environment. Raises BadSettings, with one line."""
    try:
        return parse(Settings, flags, "mixer serve")
    except FlagError as error:
        raise BadSettings(str(error)) from error
