"""The panels of the Grafana dashboard: title, unit and queries over the control plane's /metrics, row by row.

`$run` in a query is the dashboard's variable. Every replica of the control plane reports the same values, hence
`max by`. The last row uses Ray's own series. Ray's dashboard shows this dashboard on its Metrics page, and two panels
of the last row, which it selects by number, on its first page.
"""

from __future__ import annotations

from typing import NamedTuple

NODE_COUNT, CLUSTER_UTILIZATION = 24, 41
"""numbers of the panels that the first page of Ray's dashboard shows"""


class Query(NamedTuple):
    """One line of a panel, or one line per label value."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """One panel. `unit` is the name of a Grafana unit; `number` fixes the panel's id in Grafana."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    description: str = ""
    number: int | None = None


def gauge(field: str, legend: str | None = None) -> Query:
    """The series of a run with this name, without `scope_`."""
    return Query(f'max by (run) (scope_{field}{{run=~"$run"}})', legend or f"{{{{run}}}} {field}")


def keyed(field: str, legend: str = "{{run}} {{key}}") -> Query:
    """The series of a run with this name, one for each key, such as a role or a generator."""
    return Query(f'max by (run, key) (scope_{field}{{run=~"$run"}})', legend)


ROWS: dict[str, tuple[Panel, ...]] = {
    "Run": (
        Panel("Phase", "short", (keyed("run_phase"),), "1 for the phase that the run is in"),
        Panel("Learner steps", "short", (gauge("run_steps_done"), gauge("run_steps_configured"))),
        Panel("Silence of driver and learner", "s", (gauge("run_heartbeat_age_seconds"),)),
        Panel("Restarts", "short", (gauge("generator_restarts"), gauge("learner_restarts"))),
        Panel("Alarms", "bool", (keyed("alarm"),), "1 for each alarm of the newest step record"),
    ),
    "Entropy": (
        Panel(
            "Policy entropy and reference",
            "short",
            (
                gauge("entropy", "{{run}} entropy"),
                gauge("reference", "{{run}} reference"),
                gauge("entropy_target", "{{run}} entropy target"),
                gauge("entropy_error", "{{run}} standard error"),
                gauge("generator_entropy", "{{run}} as the generators see it"),
            ),
            "nats per token",
        ),
        Panel(
            "Temperature of adaptive rollouts", "short", (gauge("temperature"), gauge("sampling_temperature"))
        ),
        Panel("Weight of the regularizer", "short", (gauge("alpha"), gauge("surprisal_exponent"))),
        Panel("Control at its limit", "bool", (gauge("saturated"),)),
    ),
    "Learning": (
        Panel("Reward", "short", (gauge("reward"), gauge("adaptive_reward"))),
        Panel(
            "Correct rollouts that entropy control learns from",
            "short",
            (gauge("positives"), gauge("auxiliary_positives"), gauge("auxiliary_effective")),
            "adaptive ones, all, and their effective number by weight",
        ),
        Panel("Largest weight of one of them", "percentunit", (gauge("auxiliary_largest_share"),)),
        Panel(
            "Length of what entropy control learns from",
            "short",
            (gauge("auxiliary_length"), gauge("auxiliary_weighted_length")),
            "tokens, plain and weighted as in the loss",
        ),
        Panel("Response length", "short", (gauge("response_length"),), "tokens"),
        Panel("Cut off at the length limit", "percentunit", (gauge("truncated_share"),)),
        Panel("Clipped tokens", "percentunit", (gauge("clip_fraction"),)),
        Panel(
            "Clamped tokens", "short", (gauge("clamped_tokens"),), "log-ratios beyond 20 nats, in the loss"
        ),
        Panel(
            "Held-out pass@k during training", "short", (keyed("evaluation"),), "and the step that it is of"
        ),
        Panel(
            "Base groups of equal rewards",
            "short",
            (
                gauge("base_groups"),
                gauge("uniform_groups"),
                gauge("failed_groups"),
                gauge("solved_groups"),
                gauge("refilled_groups"),
            ),
            "without a gradient, of these without any reward and with every one, and made again of another problem",
        ),
        Panel(
            "Rollouts without a score",
            "short",
            (gauge("unscored_rollouts"),),
            "because the verifier failed or abstained",
        ),
        Panel("Shares of a mixture", "percentunit", (keyed("mixture_shares"),)),
        Panel("Pass rates of a mixture", "percentunit", (keyed("mixture_pass_rates"),)),
        Panel("Gradient norm", "short", (gauge("gradient_norm"),)),
        Panel(
            "Learning rate, and KL to the reference", "short", (gauge("learning_rate"), gauge("reference_kl"))
        ),
        Panel("Losses", "short", (gauge("surrogate"), gauge("auxiliary"))),
        Panel(
            "Mismatch KL of engine and trainer",
            "short",
            (gauge("mismatch_kl_base"), gauge("mismatch_kl_adaptive"), gauge("mismatch_kl_limit")),
            "nats per token",
        ),
        Panel(
            "Largest ratio deviation",
            "short",
            (gauge("ratio_deviation_base"), gauge("ratio_deviation_adaptive")),
        ),
    ),
    "Pipeline": (
        Panel(
            "Seconds of a step", "s", (gauge("step_seconds"), gauge("wait_seconds"), gauge("learn_seconds"))
        ),
        Panel(
            "Seconds of what else a step does",
            "s",
            (gauge("batch_seconds"), gauge("publish_seconds"), gauge("checkpoint_seconds")),
        ),
        Panel(
            "Staleness",
            "short",
            (gauge("staleness_max_steps"), gauge("staleness_limit_steps")),
            "learner steps",
        ),
        Panel(
            "Rollouts by staleness", "short", (keyed("staleness"),), "of the newest step, by learner steps"
        ),
        Panel("Groups in the replay queue", "short", (keyed("queue_groups"), gauge("queue_capacity_groups"))),
        Panel(
            "Groups since the start",
            "short",
            (gauge("produced"), gauge("acknowledged"), gauge("dead_lettered")),
        ),
        Panel("Groups missing in a step", "short", (gauge("missing_groups"), gauge("duplicates"))),
        Panel(
            "Memory of the queue's server",
            "bytes",
            (Query("max by (namespace, key) (scope_redis_memory_bytes)", "{{namespace}} {{key}}"),),
        ),
    ),
    "Generators and learner": (
        Panel(
            "Generators alive and configured",
            "short",
            (keyed("generators_alive"), keyed("generators_configured")),
        ),
        Panel("Tokens of generators", "short", (keyed("generator_tokens_per_second"),), "a second"),
        Panel("Tokens of the learner", "short", (gauge("learner_tokens_per_second"),), "a second"),
        Panel(
            "Generators at work",
            "percentunit",
            (keyed("generator_busy_share"), keyed("generator_loading_share")),
        ),
        Panel("Age of a generator's weights", "short", (keyed("generator_lag_steps"),), "learner steps"),
        Panel("Silence of generators", "s", (keyed("generator_heartbeat_age_seconds"),)),
        Panel("Weights", "bytes", (gauge("weight_bytes"),)),
        Panel("Seconds of a weight load", "s", (gauge("weight_load_seconds"),)),
    ),
    "Ray": (
        Panel("Nodes", "short", (Query("count(ray_node_cpu_count)", "alive"),), number=NODE_COUNT),
        Panel(
            "Use of the cluster",
            "percent",
            (
                Query("avg(ray_node_cpu_utilization)", "CPU"),
                Query("avg(ray_node_gpus_utilization)", "GPU"),
                Query("100 * sum(ray_node_mem_used) / sum(ray_node_mem_total)", "memory"),
                Query(
                    "100 * sum(ray_object_store_used_memory)"
                    " / sum(ray_object_store_used_memory + ray_object_store_available_memory)",
                    "object store",
                ),
            ),
            number=CLUSTER_UTILIZATION,
        ),
        Panel(
            "Actors by class and state",
            "short",
            (Query('sum by (Name, State) (ray_actors{Source="gcs"}) > 0', "{{Name}} {{State}}"),),
        ),
        Panel(
            "Memory by process",
            "bytes",
            (Query("topk(12, sum by (Component) (ray_component_uss_bytes))", "{{Component}}"),),
        ),
        Panel(
            "Policy entropy, as `ray.util.metrics` has it",
            "short",
            (
                Query('max by (run) (ray_scope_entropy{run=~"$run"})', "{{run}} entropy"),
                Query('max by (run) (ray_scope_entropy_target{run=~"$run"})', "{{run}} entropy target"),
            ),
            "nats per token; without the control plane",
        ),
    ),
}
