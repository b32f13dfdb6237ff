"""What a resumption may change: every field of the configuration is free, free with a consequence, or fixed.

A field that no rule names is fixed. A test demands a rule for each, and docs/how-to/stop-and-resume.md has the rules as
a table.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

from trainer.config import RunConfig
from trainer.config.fields import describe_fields

Kind = Literal["free", "with_model_path", "with_same_roles", "fixed"]
"""with_model_path: free where `model.path` is set, else fixed; with_same_roles: free unless the run gains or loses its
adaptive rollouts, else fixed"""


class Rule(NamedTuple):
    """What a resumption may do to some fields."""

    kind: Kind
    about: str
    """free: what a change does, empty if it only applies from here on; otherwise why the field is fixed"""
    fields: tuple[str, ...]
    effect: str = ""
    """what a change does where a field is only fixed in some runs"""


def _rule(kind: Kind, about: str, fields: str, effect: str = "") -> Rule:
    return Rule(kind, about, tuple(fields.split()), effect)


RULES = (
    _rule(
        "free",
        "not below the steps already made; a learning-rate schedule without `optimizer.decay_steps` stretches",
        "steps",
    ),
    _rule("free", "it has no effect: the run stays in its directory", "runs_dir"),
    _rule(
        "free",
        "DeepSpeed converts the checkpoint on rank 0, into a copy as large, which is removed after loading; losses "
        "then agree to rounding, not bit for bit",
        "learner.workers learner.zero_stage",
    ),
    _rule(
        "free",
        "another place of the same model: settings, tokenizer and the sizes of weights are compared",
        "model.path",
    ),
    _rule("free", "another place of the same modules", "task.folder"),
    _rule("free", "another address of the same verifier", "task.verifier.url"),
    _rule("free", "another address of the server that holds the run's queue", "redis.url"),
    _rule(
        "free",
        "rollouts that wait in the queue keep the reward they were given",
        "task.reward.format_weight task.reward.overlong_from task.reward.overlong_penalty "
        "task.reward.overlong_form task.reward.length_penalty task.reward.length_free",
    ),
    _rule(
        "free",
        "rollouts that wait in the queue keep their verdict; pass@k from here on does not compare with that before",
        "task.positive_from",
    ),
    _rule(
        "free",
        "rollouts that wait in the queue were sampled with the old value",
        "rollout.base_temperature rollout.refills rollout.max_turns",
    ),
    _rule(
        "free", "a lower one dead-letters groups in the queue that are too stale", "pipeline.max_staleness"
    ),
    _rule(
        "free",
        "a target that was set live stays in force; the controller keeps its state",
        "entropy_control.target entropy_control.auto_fraction entropy_control.target_min "
        "entropy_control.target_max entropy_control.target_max_change entropy_control.schedule.kind "
        "entropy_control.schedule.points entropy_control.schedule.to entropy_control.schedule.from_step "
        "entropy_control.schedule.until_step",
    ),
    _rule(
        "free",
        "rollouts that wait in the queue were sampled for the old value; the controller keeps its state",
        "entropy_control.samples",
    ),
    _rule(
        "free",
        "the state of the previous regularizer is left out: the strength of the new one begins at its initial value",
        "regularizer.kind",
    ),
    _rule(
        "free",
        "the report compares the evaluations of start and end only for the same number of problems",
        "evaluation.problems evaluation.samples evaluation.ks evaluation.temperature evaluation.every_steps",
    ),
    _rule("free", "another mirror has the checkpoints from here on", "checkpoint.mirror"),
    _rule(
        "free",
        "",
        """
        task.verifier.on_failure task.verifier.load_seconds
        task.verifier.authorization_variable task.verifier.attempts task.verifier.retry_seconds
        task.verifier.workers task.verifier.timeout_seconds task.verifier.memory_mib
        task.curriculum.floor task.curriculum.smoothing warm_start.cache_dir
        pipeline.queue_capacity pipeline.unacked_bytes pipeline.entry_bytes pipeline.lease_seconds
        pipeline.max_deliveries pipeline.batch_timeout_seconds pipeline.ledger
        loss.aggregation loss.clip_low loss.clip_high loss.minibatches loss.tis_cap loss.epochs
        loss.advantage_epsilon loss.advantage_std loss.dual_clip loss.reference loss.kl_coefficient loss.kl_estimator
        optimizer.learning_rate optimizer.warmup_steps optimizer.schedule optimizer.decay_steps
        optimizer.final_share optimizer.gradient_clip
        learner.cpus_per_worker learner.gpus_per_worker learner.ray_resource learner.threads
        learner.micro_batch_tokens learner.micro_batching learner.share_prompts
        learner.logit_chunk_tokens learner.fused_head learner.gradient_checkpointing
        learner.max_restarts learner.collective_timeout_seconds
        generators.base generators.adaptive generators.dtype generators.cpus_per_generator
        generators.gpus_per_generator generators.ray_resource generators.tensor_parallel
        generators.threads generators.kv_cache_gib generators.gpu_memory_fraction
        generators.max_sequences generators.groups_in_flight generators.caches_in_flight
        generators.enforce_eager generators.elastic generators.start_timeout_seconds
        generators.max_restarts
        weights.transport weights.timeout_seconds weights.bucket_mib
        entropy_control.normalization entropy_control.positives_from entropy_control.reward_from
        entropy_control.surprisal entropy_control.evidence_floor entropy_control.paper.t_min entropy_control.paper.t_max
        entropy_control.paper.alpha entropy_control.paper.surprisal_exponent
        entropy_control.aepo_v1.t_cold entropy_control.aepo_v1.t_hot entropy_control.aepo_v1.alpha
        entropy_control.aepo_v1.surprisal_exponent entropy_control.split_range.plant_gain
        entropy_control.split_range.gain_memory entropy_control.split_range.lag_steps
        entropy_control.split_range.response_steps entropy_control.split_range.back_calculation
        entropy_control.split_range.ramp
        entropy_control.split_range.lead entropy_control.split_range.t_min
        entropy_control.split_range.t_max entropy_control.split_range.success_floor
        entropy_control.split_range.alpha
        entropy_control.split_range.alpha_max entropy_control.split_range.surprisal_exponent
        entropy_control.split_range.surprisal_exponent_max
        regularizer.entropy_bonus.coefficient regularizer.adaptive_coefficient.delta
        regularizer.adaptive_coefficient.initial regularizer.adaptive_coefficient.maximum
        regularizer.clip_higher.low regularizer.clip_higher.high regularizer.clip_cov.ratio
        regularizer.clip_cov.lower regularizer.clip_cov.upper regularizer.kl_cov.ratio
        regularizer.kl_cov.coefficient regularizer.kl_cov.clipping
        regularizer.entropy_advantage.alpha regularizer.entropy_advantage.kappa regularizer.dcpo.cap
        regularizer.dcpo.t_cold regularizer.dcpo.t_hot
        redis.server_binary redis.appendfsync redis.connect_timeout_seconds
        checkpoint.every_steps checkpoint.every_seconds checkpoint.keep checkpoint.best_k
        checkpoint.asynchronous
        determinism.strict
        rollout_samples.per_step rollout_samples.most_tokens rollout_samples.kept
        rollout_samples.file_mib
        control_plane.enabled control_plane.host control_plane.port control_plane.reads_per_minute
        control_plane.writes_per_minute control_plane.allowed_hosts control_plane.connections
        control_plane.connections_per_address control_plane.header_timeout_seconds
        control_plane.body_timeout_seconds control_plane.idle_timeout_seconds
        loggers
        wandb.project wandb.entity wandb.mode
        ray.address ray.dashboard ray.dashboard_port ray.object_store_mib
        """,
    ),
    _rule(
        "with_model_path",
        "the built-in model was made for it",
        "model.max_length rollout.max_new_tokens",
    ),
    _rule(
        "with_same_roles",
        "a change from or to none adds or removes adaptive rollouts, whose places in the queue are counted from the "
        "first step",
        "entropy_control.kind",
        effect="the state of the previous law is left out: the new law begins at the temperature in force, within its "
        "limits, and neutral otherwise",
    ),
    _rule(
        "fixed",
        "it determines the problems that are trained on and held out, and their order",
        "seed task.name task.seed task.heldout task.max_number task.max_target task.easy_share task.options "
        "task.dataset.train task.dataset.heldout task.dataset.split task.dataset.heldout_split "
        "task.dataset.prompt_field task.dataset.answer_field task.dataset.strip_before "
        "task.dataset.strip_after task.dataset.keep_fields task.dataset.source_field "
        "task.dataset.max_characters task.dataset.bad_rows task.unusable_prompts "
        "task.reasoning_gym.dataset task.reasoning_gym.size "
        "task.reasoning_gym.options task.mixture task.curriculum.kind",
    ),
    _rule(
        "fixed",
        "the policy has learned with these prompts and this verifier, and evaluations before and after could not be "
        "compared",
        "task.dataset.instruction task.reasoning_gym.instruction model.chat model.system_prompt model.system_role "
        "task.verifier.kind task.verifier.function",
    ),
    _rule(
        "fixed",
        "it determines the model that the checkpoint holds",
        "model.revision model.hidden_size model.layers model.heads model.head_dim model.ffn_size "
        "warm_start.seed warm_start.steps warm_start.threads warm_start.batch_size "
        "warm_start.learning_rate warm_start.softening learner.lora.rank learner.lora.alpha learner.lora.targets",
    ),
    _rule(
        "fixed",
        "it belongs to the optimizer's state, which the checkpoint holds",
        "learner.precision learner.offload optimizer.weight_decay optimizer.beta1 optimizer.beta2 "
        "optimizer.epsilon",
    ),
    _rule(
        "fixed",
        "the groups that wait in the queue, and the places of those to come, have this shape",
        "rollout.prompts_per_step rollout.base_samples rollout.adaptive_samples",
    ),
    _rule("fixed", "it has only one allowed value", "rollout.top_p rollout.top_k rollout.min_p"),
)

_UNKNOWN = Rule("fixed", "no rule says that it may change", ())


class Change(NamedTuple):
    """A field whose value in a resumption differs from the run's."""

    path: str
    before: Any
    after: Any
    allowed: bool
    about: str
    """the consequence of an allowed change; otherwise why it is not allowed"""

    def __str__(self) -> str:
        """For people, before the run goes on."""
        about = f" ({self.about})" if self.about else ""
        return f"{self.path} was {self.before!r} and is {self.after!r} from here on{about}"

    @property
    def refusal(self) -> str:
        """Why the change is not allowed, and what to do."""
        return (
            f"{self.path} = {self.after!r} is not allowed in a resumption: the run has {self.before!r}, and "
            f"{self.about}. Resume without this change, or start a new run (its model.path may be this one's model/)."
        )


@lru_cache(maxsize=1)
def rules() -> dict[str, Rule]:
    """The rule of every field that has one."""
    return {field: rule for rule in RULES for field in rule.fields}


def changes(before: RunConfig, after: RunConfig) -> list[Change]:
    """Every field that differs, in order of declaration."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    found = []
    for field in describe_fields():
        was, now = _at(old, field.path), _at(new, field.path)
        if was == now:
            continue
        rule = rules().get(field.path, _UNKNOWN)
        met = _condition_is_met(rule.kind, before, after)
        found.append(
            Change(field.path, was, now, met or rule.kind == "free", rule.effect if met else rule.about)
        )
    return found


def _condition_is_met(kind: Kind, before: RunConfig, after: RunConfig) -> bool:
    """Whether a field that is only fixed in some runs may change in this one."""
    match kind:
        case "with_model_path":
            return after.model.path is not None
        case "with_same_roles":
            return before.roles == after.roles
        case "free" | "fixed":
            return False


def _at(tree: dict[str, Any], path: str) -> Any:
    value: Any = tree
    for name in path.split("."):
        value = value[name]
    return value
