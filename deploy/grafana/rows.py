"""What the dashboard shows: rows of panels, each with its expressions. Knows nothing of how Grafana stores them.

In expressions, SELECTED stands for the chosen jobs and instances, RATE for a window that fits the zoom.
"""

from panel import Panel, Row


def quantiles(metric: str, matchers: str = "SELECTED") -> dict[str, str]:
    """p50, p95 and p99 of a histogram."""
    return {
        f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{{{matchers}}}[RATE])))": name
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    }


def stage(name: str) -> Panel:
    """The time of pictures in one stage."""
    words = {
        "receive": "From a request's first byte to the last of its body: the client's and the network's time.",
        "decode": "From bytes to pixels. Large pictures and slow formats show here.",
        "queue": "Waiting for an instance that is idle. The first to grow when capacity is short.",
        "infer": "The run itself, for the whole batch that the picture was in.",
    }
    return Panel(
        f"{name.capitalize()}", words[name], "s", quantiles("mixer_stage_seconds", f'stage="{name}", SELECTED'), width=6
    )


def stat(title: str, description: str, unit: str, expression: str, *limits: float, **more: bool) -> Panel:
    """One number, small."""
    return Panel(title, description, unit, {expression: title}, "stat", width=3, height=4, limits=limits, **more)


PROBES = 'endpoint!~"(?i).*(health|ready|live|ping|metrics|admin).*"'
OF_REQUESTS = f"sum(rate(mixer_requests_total{{{PROBES}, SELECTED}}[RATE]))"

OVERVIEW = Row(
    "Overview",
    (
        stat(
            "Ready", "Share of instances whose /health/ready is 200, in every worker.", "percentunit",
            "avg(mixer_ready{SELECTED})", 0, 0.5, 1, low_is_bad=True,
        ),
        stat(
            "Alerts", "Alerts of the shipped rules that fire now; Prometheus' page /alerts has them.", "short",
            '(sum(ALERTS{alertname=~"Mixer.*", alertstate="firing"}) or vector(0))', 1, 3,
        ),
        stat("Requests", "Requests a second, without probes and scrapes.", "reqps", OF_REQUESTS),
        stat(
            "Failed", "Share of requests answered with a 5xx. The objective is 0.1 %.", "percentunit",
            f'(sum(rate(mixer_requests_total{{status=~"5..", {PROBES}, SELECTED}}[RATE])) or 0 * {OF_REQUESTS})'
            f" / {OF_REQUESTS}", 0.001, 0.0144,
        ),
        stat(
            "Refused", "Share of requests answered with 429: the service is full, and says when to come again.",
            "percentunit",
            f'(sum(rate(mixer_requests_total{{status="429", SELECTED}}[RATE])) or 0 * {OF_REQUESTS}) / {OF_REQUESTS}',
            0.01, 0.05,
        ),
        stat(
            "p99", "99 of 100 requests to /classify are answered within this time.", "s",
            'histogram_quantile(0.99, sum by (le) (rate(mixer_request_seconds_bucket{endpoint="/classify", SELECTED}'
            "[RATE])))", 0.5, 1,
        ),
        stat(
            "Canary", "Seconds since all canaries last had their stored answers, of the instance where it is longest.",
            "s", "max(time() - mixer_canary_last_success_timestamp_seconds{SELECTED})", 60, 120,
        ),
        stat(
            "Workers down", "Workers that cannot start again, or take long to.", "short",
            "sum(mixer_workers_down{SELECTED})", 1, 1,
        ),
        Panel(
            "What runs", "One line for each model of each instance: provider, precision and version.", "short",
            {"max by (instance, model, version, precision, provider) (mixer_engine_info{SELECTED})": "{{model}}"},
            "table", width=12, height=6,
        ),
        Panel(
            "In use", "What workers share, as a share of its limit: pictures, connections, bytes of bodies and of "
            "decoding. Near 1, the next one waits or is refused.", "percentunit",
            {
                "max by (of) (mixer_in_use{SELECTED} / on (job, instance, of) mixer_limit{SELECTED})": "{{of}}",
                'max(mixer_connections{SELECTED} / on (job, instance) mixer_limit{of="connections", SELECTED})':
                    "connections",
            },
            "bargauge", width=12, height=6, limits=(0.7, 0.9), most=1,
        ),
    ),
)  # fmt: skip

TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Requests by status", "All that clients ask, probes included. 499: the client hung up. 429: refused.",
            "reqps", {"sum by (status) (rate(mixer_requests_total{SELECTED}[RATE]))": "{{status}}"}, stacked=True,
        ),
        Panel(
            "Requests by endpoint", "Which endpoints and protocols are used.", "reqps",
            {"sum by (endpoint) (rate(mixer_requests_total{SELECTED}[RATE]))": "{{endpoint}}"}, stacked=True,
        ),
        Panel(
            "Pictures by outcome", "What became of each picture, those in batches included: classified, or an "
            "error's code.", "short",
            {"sum by (outcome) (rate(mixer_images_total{SELECTED}[RATE]))": "{{outcome}}"}, stacked=True,
        ),
        Panel(
            "Errors by code", "Why requests fail; docs/api.md has every code. The log has whose they are.", "reqps",
            {"sum by (code) (rate(mixer_errors_total{SELECTED}[RATE]))": "{{code}}"}, stacked=True,
        ),
        Panel(
            "Requests by key", "Requests let in by an API key, by its name.", "reqps",
            {"sum by (key) (rate(mixer_key_requests_total{SELECTED}[RATE]))": "{{key}}"}, stacked=True,
        ),
        Panel(
            "Pictures by model", "Only where several bundles are served: which of them is asked.", "short",
            {'sum by (model, outcome) (rate(mixer_model_images_total{model=~"$model", SELECTED}[RATE]))':
                "{{model}} {{outcome}}"}, stacked=True,
        ),
    ),
)  # fmt: skip

LATENCY = Row(
    "Latency by stage",
    (
        Panel(
            "Requests to /classify", "From the first byte of a request to the last of its answer.", "s",
            quantiles("mixer_request_seconds", 'endpoint="/classify", SELECTED'), limits=(0.5,),
        ),
        Panel(
            "All durations", "How long requests of all endpoints take: a second band is a second kind of request.", "s",
            {f"sum by (le) (increase(mixer_request_seconds_bucket{{{PROBES}, SELECTED}}[RATE]))": "{{le}}"}, "heatmap",
        ),
        Panel(
            "p95 by endpoint", "Batches, streams and explanations take longer than single pictures.", "s",
            {"histogram_quantile(0.95, sum by (endpoint, le) (rate(mixer_request_seconds_bucket{SELECTED}[RATE])))":
                "{{endpoint}}"},
        ),
        stage("receive"), stage("decode"), stage("queue"), stage("infer"),
        Panel(
            "Where a picture's time goes", "Mean seconds of each stage, on top of each other.", "s",
            {"sum by (stage) (rate(mixer_stage_seconds_sum{SELECTED}[RATE])) / "
             "sum by (stage) (rate(mixer_stage_seconds_count{SELECTED}[RATE]))": "{{stage}}"}, width=12, stacked=True,
        ),
        Panel(
            "Respond", "From the first byte of an answer to its last: slow readers show here.", "s",
            quantiles("mixer_stage_seconds", 'stage="respond", SELECTED'), width=12,
        ),
    ),
)  # fmt: skip

SATURATION = Row(
    "Saturation",
    (
        Panel(
            "Inside the service", "Pictures that decode, wait or run, those of them that wait for an instance, and the "
            "limit (MIXER_QUEUE_CAPACITY).", "short",
            {
                "sum(mixer_in_flight{SELECTED})": "in flight",
                "sum(mixer_queue_depth{SELECTED})": "waiting",
                'sum(mixer_limit{of="images", SELECTED})': "limit",
            },
        ),
        Panel(
            "Refused pictures", "By reason: queue_full (too little capacity), uploads_full (too many bytes of bodies), "
            "draining (it stops).", "short",
            {"sum by (reason) (rate(mixer_rejected_total{SELECTED}[RATE]))": "{{reason}}"}, stacked=True,
        ),
        Panel(
            "Given up", "Pictures that were let in and not answered: their client has gone, or their deadline has "
            "passed.", "short",
            {"sum by (stage, reason) (rate(mixer_dropped_total{SELECTED}[RATE]))": "{{stage}}: {{reason}}"},
            stacked=True,
        ),
        Panel(
            "Event loop lag", "How late each worker's event loop comes to what it does every half second: a time in "
            "which nobody is served.", "s", quantiles("mixer_event_loop_lag_seconds"), limits=(0.25,),
        ),
        Panel(
            "Processors", "Processor seconds a second of all workers: 2 is two cores kept busy.", "short",
            {"sum by (instance) (rate(mixer_worker_cpu_seconds_total{SELECTED}[RATE]))": "{{instance}}"},
        ),
        Panel(
            "Bytes in hand", "Bytes of bodies and of decoding that all workers hold, and their limits.", "bytes",
            {
                'sum by (of) (mixer_in_use{of=~".*bytes", SELECTED})': "{{of}}",
                'sum by (of) (mixer_limit{of=~".*bytes", SELECTED})': "limit of {{of}}",
            },
        ),
    ),
)  # fmt: skip

BATCHES = Row(
    "Batches",
    (
        Panel(
            "Pictures in a run", "The mean, and the largest that one run in twenty reaches.", "short",
            {
                "sum(rate(mixer_batch_size_sum{SELECTED}[RATE])) / sum(rate(mixer_batch_size_count{SELECTED}[RATE]))":
                    "mean",
                "histogram_quantile(0.95, sum by (le) (rate(mixer_batch_size_bucket{SELECTED}[RATE])))": "p95",
            },
        ),
        Panel(
            "Sizes of runs", "How many runs have how many pictures.", "short",
            {"sum by (le) (increase(mixer_batch_size_bucket{SELECTED}[RATE]))": "{{le}}"}, "heatmap",
        ),
        Panel(
            "Runs", "Calls of the engine a second.", "ops",
            {
                "sum(rate(mixer_batch_size_count{SELECTED}[RATE]))": "all",
                'sum by (model) (rate(mixer_model_runs_total{model=~"$model", SELECTED}[RATE]))': "{{model}}",
            },
        ),
        Panel(
            "Padding", "Share of empty rows in runs that are padded to a batch bucket; always 0 on a CPU.",
            "percentunit",
            {"sum(rate(mixer_padding_images_total{SELECTED}[RATE])) / (sum(rate(mixer_padding_images_total{SELECTED}"
             "[RATE])) + sum(rate(mixer_batch_size_sum{SELECTED}[RATE])))": "padding"}, width=12, most=1,
        ),
        Panel(
            "Since the last run", "Seconds since a run ended. It grows where nobody asks, and where a run hangs.", "s",
            {"time() - mixer_last_run_timestamp_seconds{SELECTED}": "{{instance}}"}, width=12,
        ),
    ),
)  # fmt: skip

QUALITY = Row(
    "Quality",
    (
        Panel(
            "Probability of the best label", "A shift shows pictures unlike those of training.", "percentunit",
            {
                **quantiles("mixer_top1_probability"),
                "sum(rate(mixer_top1_probability_sum{SELECTED}[RATE])) / "
                "sum(rate(mixer_top1_probability_count{SELECTED}[RATE]))": "mean",
            }, most=1,
        ),
        Panel(
            "Uncertain", "Share of answers below the energy threshold. 5 % of pictures like those of validation are.",
            "percentunit",
            {
                "sum(rate(mixer_uncertain_total{SELECTED}[RATE])) / "
                'sum(rate(mixer_images_total{outcome="classified", SELECTED}[RATE]))': "all",
                'sum by (model) (rate(mixer_model_uncertain_total{model=~"$model", SELECTED}[RATE])) / sum by (model) '
                '(rate(mixer_model_images_total{outcome="classified", model=~"$model", SELECTED}[RATE]))': "{{model}}",
            }, limits=(0.2,), most=1,
        ),
        Panel(
            "Predictions by label", "The ten most frequent best labels, pictures a second.", "short",
            {"topk(10, sum by (label) (rate(mixer_predictions_total{SELECTED}[RATE])))": "{{label}}"}, stacked=True,
        ),
        Panel(
            "Predictions by model and label", "The same where several bundles are served.", "short",
            {'topk(20, sum by (model, label) (rate(mixer_model_predictions_total{model=~"$model", SELECTED}[RATE])))':
                "{{model}}: {{label}}"}, stacked=True,
        ),
        Panel(
            "Canary", "How long the canaries took last, the slowest worker's.", "s",
            {"mixer_canary_seconds{SELECTED}": "{{instance}}"},
        ),
        Panel(
            "Canary failures", "Stored pictures that did not get their stored answers, by reason, in an hour.", "short",
            {"sum by (reason) (increase(mixer_canary_failures_total{SELECTED}[1h]))": "{{reason}}"}, stacked=True,
        ),
        Panel(
            "Right by feedback", "Share of kept pictures whose best label was right, of those whose true label "
            "somebody said in the last day. Rules choose what is kept: only pictures kept at random stand for all.",
            "percentunit",
            {'sum by (model) (increase(mixer_feedback_total{outcome="right", SELECTED}[1d])) / '
             "sum by (model) (increase(mixer_feedback_total{SELECTED}[1d]))": "{{model}}"}, most=1,
        ),
        Panel(
            "Feedback", "True labels said, in all.", "short",
            {"sum by (model, outcome) (mixer_feedback_total{SELECTED})": "{{model}} {{outcome}}"},
        ),
        Panel(
            "Kept pictures", "What became of pictures that a rule chose to keep.", "short",
            {"sum by (outcome) (rate(mixer_collected_total{SELECTED}[RATE]))": "{{outcome}}"}, stacked=True,
        ),
        Panel(
            "Explanations", "Pictures to explain, by method and outcome.", "short",
            {"sum by (method, outcome) (rate(mixer_explanations_total{SELECTED}[RATE]))": "{{method}} {{outcome}}"},
            width=12, stacked=True,
        ),
        Panel(
            "Masked rows", "Rows that were run for explanations, behind everything else.", "short",
            {"sum(rate(mixer_explanation_rows_total{SELECTED}[RATE]))": "rows"}, width=12,
        ),
    ),
)  # fmt: skip

DRIFT = Row(
    "Drift",
    (
        Panel(
            "Stability index", "How far the last 1,000 answers of each model are from those to its held-out pictures. "
            "Above 0.1 something moves, above 0.25 it has moved.", "short",
            {'mixer_drift_psi{model=~"$model", SELECTED}': "{{model}}: {{of}}"}, width=16, limits=(0.1, 0.25),
        ),
        Panel(
            "Now", "The largest index of each model.", "short",
            {'max by (model) (mixer_drift_psi{model=~"$model", SELECTED})': "{{model}}"}, "bargauge",
            limits=(0.1, 0.25), most=1,
        ),
    ),
)  # fmt: skip

WORKERS = Row(
    "Workers",
    (
        Panel(
            "Restarts", "Workers that died or hung and were replaced, in an hour, and decodes that cost one.", "short",
            {
                "sum by (instance) (increase(mixer_worker_restarts_total{SELECTED}[1h]))": "{{instance}} restarts",
                "sum by (instance) (increase(mixer_decode_overruns_total{SELECTED}[1h]))": "{{instance}} overruns",
            },
        ),
        Panel(
            "Down", "Workers that cannot start again, and whether each instance is ready (1) or not (0).", "short",
            {
                "mixer_workers_down{SELECTED}": "{{instance}} down",
                "mixer_ready{SELECTED}": "{{instance}} ready",
            },
        ),
        Panel(
            "Connections", "Open connections, and the limit (MIXER_MAX_CONNECTIONS).", "short",
            {
                "sum(mixer_connections{SELECTED})": "open",
                'sum(mixer_limit{of="connections", SELECTED})': "limit",
            },
        ),
        Panel(
            "Connections by worker", "Workers even them out; one with far more serves far slower.", "short",
            {'mixer_worker_connections{worker=~"$worker", SELECTED}': "{{instance}} {{worker}}"},
        ),
        Panel(
            "Pictures by worker", "Pictures classified a second, by the worker that did it.", "short",
            {'rate(mixer_worker_images_total{worker=~"$worker", SELECTED}[RATE])': "{{instance}} {{worker}}"},
            stacked=True,
        ),
        Panel(
            "Inside by worker", "Pictures that decode, wait or run in each worker.", "short",
            {'mixer_worker_in_flight{worker=~"$worker", SELECTED}': "{{instance}} {{worker}}"}, stacked=True,
        ),
        Panel(
            "Processor by worker", "Processor seconds a second; a worker decodes and runs in several threads.", "short",
            {'rate(mixer_worker_cpu_seconds_total{worker=~"$worker", SELECTED}[RATE])': "{{instance}} {{worker}}"},
        ),
        Panel(
            "Memory by worker", "Resident bytes, those that it shares with others included.", "bytes",
            {'mixer_worker_resident_bytes{worker=~"$worker", SELECTED}': "{{instance}} {{worker}}"},
        ),
        Panel(
            "Reloads", "Bundles looked at by a reload, in each worker, in an hour.", "short",
            {"sum by (outcome) (increase(mixer_reloads_total{SELECTED}[1h]))": "{{outcome}}"}, stacked=True,
        ),
    ),
)  # fmt: skip

SHADOW = Row(
    "Shadow",
    (
        Panel(
            "Agreement", "Share of pictures that both models give the same best label, of those that both ran.",
            "percentunit",
            {'sum by (shadow) (rate(mixer_shadow_images_total{outcome="agree", SELECTED}[RATE])) / sum by (shadow) '
             '(rate(mixer_shadow_images_total{outcome=~"agree|differ", SELECTED}[RATE]))': "{{shadow}}"}, most=1,
        ),
        Panel(
            "Pictures for the shadow", "What became of them; dropped: there was no time for it.", "short",
            {"sum by (shadow, outcome) (rate(mixer_shadow_images_total{SELECTED}[RATE]))": "{{shadow}} {{outcome}}"},
            stacked=True,
        ),
        Panel(
            "Disagreements", "The ten most frequent pairs of labels in an hour: the first model's, and the shadow's.",
            "short",
            {"topk(10, sum by (label, shadow_label) (increase(mixer_shadow_disagreements_total{SELECTED}[1h])))":
                "{{label}} / {{shadow_label}}"}, "bargauge",
        ),
        Panel(
            "Difference of probabilities", "How far apart both models' probabilities of the answered label are.",
            "percentunit", quantiles("mixer_shadow_probability_difference"), most=1,
        ),
        Panel(
            "Run of each", "p95 of the runs that these pictures were in, by model and shadow.", "s",
            {"histogram_quantile(0.95, sum by (role, le) (rate(mixer_shadow_infer_seconds_bucket{SELECTED}[RATE])))":
                "{{role}}"},
        ),
        Panel(
            "Who is uncertain", "The same pictures, by which of both was uncertain.", "short",
            {"sum by (uncertain) (rate(mixer_shadow_uncertain_total{SELECTED}[RATE]))": "{{uncertain}}"}, stacked=True,
        ),
        Panel(
            "Answers clients", "1 where the shadow answers its share of requests, and how often that was stopped.",
            "short",
            {
                "mixer_shadow_answering{SELECTED}": "{{instance}} {{shadow}}",
                "sum by (shadow, reason) (mixer_shadow_stops_total{SELECTED})": "{{shadow}} stopped: {{reason}}",
            }, width=12,
        ),
        Panel(
            "What runs beside", "The shadow's provider, precision and version.", "short",
            {"max by (instance, model, version, precision, provider) (mixer_shadow_info{SELECTED})": "{{model}}"},
            "table", width=12,
        ),
    ),
    closed=True,
)  # fmt: skip

GPU = Row(
    "GPU",
    (
        Panel(
            "Busy", "Share of the time in which a kernel ran. It says nothing of how much of the GPU a kernel uses.",
            "percentunit", {"mixer_gpu_utilization_ratio{SELECTED}": "{{instance}} {{gpu}}"}, most=1,
        ),
        Panel(
            "Memory", "In use by whoever uses the GPU, and all there is.", "bytes",
            {
                "mixer_gpu_memory_used_bytes{SELECTED}": "{{instance}} {{gpu}} used",
                "mixer_gpu_memory_bytes{SELECTED}": "{{instance}} {{gpu}} in all",
            },
        ),
        Panel(
            "Temperature", "Near 90 degrees most GPUs slow themselves down.", "celsius",
            {"mixer_gpu_temperature_celsius{SELECTED}": "{{instance}} {{gpu}}"}, limits=(85, 90),
        ),
        Panel(
            "Power", "What the whole GPU takes, that of a slice included.", "watt",
            {"mixer_gpu_power_watts{SELECTED}": "{{instance}} {{gpu}}"}, width=12,
        ),
        Panel(
            "Runs on", "Models by the provider that really runs them.", "short",
            {"sum by (provider) (mixer_engine_info{SELECTED})": "{{provider}}"}, width=12,
        ),
    ),
    closed=True,
)  # fmt: skip

ROWS = (OVERVIEW, TRAFFIC, LATENCY, SATURATION, BATCHES, QUALITY, DRIFT, WORKERS, SHADOW, GPU)
