"""A Ray of this machine alone that serves deploy/ray/serve.yaml until its standard input ends. Run in .venv-engines.

Arguments: a port, and the settings of replicas as NAME=VALUE. Prints a line of JSON once all replicas are up.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "ray" / "serve.yaml"
STORE_BYTES = 128 << 20  # nothing large goes through the object store


def config(port: int, **variables: str) -> dict[str, Any]:
    """That of serve.yaml on a port of this machine, two replicas that stay two, with these settings."""
    found: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    found["proxy_location"] = "HeadOnly"
    found["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = found["applications"]
    application["runtime_env"]["env_vars"] |= variables
    (deployment,) = application["deployments"]
    deployment["autoscaling_config"]["max_replicas"] = deployment["autoscaling_config"]["min_replicas"]
    deployment["ray_actor_options"]["num_cpus"] = 1
    return found


def main() -> None:
    """Serve until told to stop."""
    port, *words = sys.argv[1:]
    found = config(int(port), **dict(word.split("=", 1) for word in words))
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=STORE_BYTES, _temp_dir=folder)
        serve.start(proxy_location=found["proxy_location"], http_options=found["http_options"])
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(found))
        while serve.status().applications["mixer-serve"].status != "RUNNING":
            time.sleep(0.5)
        print(json.dumps({"serving": port}), flush=True)  # noqa: T201 -- who started this waits for it
        sys.stdin.read()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
