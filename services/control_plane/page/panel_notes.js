// @ts-check
// Explanations of charts, by title, and of lines, by key.

/** @type {Record<string, string>} */
export const NOTES = {
  "Policy entropy":
    "How undecided the policy is about its next token: exact, at temperature 1, on base rollouts, before the step's update. Too little means that it hardly explores any more. Entropy control holds it at the entropy target.",
  "Held-out pass@k":
    "Share of held-out problems that at least one of k answers solves. pass@1 says how good the policy is; pass@k for a large k says how much it can still discover. When entropy collapses, pass@k for a large k falls first.",
  Temperature: "Temperature at which adaptive rollouts are sampled. The control law raises it to raise entropy. Set: for rollouts that begin after this step. Sampled: of the rollouts of this step, which began earlier.",
  "Weight of positives": "α: the weight of the auxiliary loss, which makes correct adaptive rollouts more likely. The control law raises it towards both ends of its output.",
  "Surprisal exponent":
    "ρ weights correct adaptive rollouts by their surprisal, that is, by how unlikely the policy found them: weight ∝ surprisal^ρ. At 0 all count alike; the larger ρ is, the more the rare correct answers count, which raises entropy.",
  "Regularizer strength": "Main parameter of the configured regularizer in this step's loss.",
  Reward: "Mean reward. Base rollouts are sampled at the fixed temperature of the run, adaptive rollouts at the temperature that the control law sets.",
  "Learning signal": "Positives: rewarded adaptive rollouts, the samples of the auxiliary loss; without any, entropy control cannot act. Effective: how many rollouts of equal weight the auxiliary loss learns from in effect. Uniform groups: base groups with equal rewards, which give no gradient. Unscored rollouts: the verifier gave them no score, so they count in nothing.",
  "Gradient norm": "Global norm of the gradient before clipping, mean over the step's updates. A norm that keeps growing says that training becomes unstable.",
  "Clipped tokens": "Share of tokens at which the clip of the importance ratio binds: they give no gradient. A large share says that updates are too large or rollouts too old.",
  "Learning rate": "Learning rate of the step's updates, after warm-up and schedule.",
  "Mismatch KL": "Distance between the log-probabilities of engine and learner on the sampled tokens. It grows with staleness; above the alarm, the two do not run the same policy.",
  "Ratio deviation": "Largest deviation from 1 of the ratio of proximal to behaviour probability over the step's tokens.",
  Loss: "Policy: the clipped surrogate on base rollouts, penalties included. Auxiliary: the term of the positives, without its weight α.",
  "Reference KL": "KL divergence of the policy from the starting policy on base tokens, before the update.",
  "Response length": "Mean number of response tokens over all rollouts of the step.",
  "Truncated responses": "Share of rollouts cut off at the longest length allowed, most of them before their answer. If it grows, raise rollout.max_new_tokens.",
  Tokens: "Response tokens that the learner consumed in this step, and that generators sampled since the last one.",
  Staleness: "Learner steps between the policy version that sampled a rollout's oldest token and the step that learns from it.",
  "Unread groups": "Groups in the queue that the learner has not read. At the capacity, generators wait.",
  "Pending groups": "Groups that the learner has read and not acknowledged: they wait for a checkpoint. The curve falls to a few with every checkpoint. The capacity of the queue does not count them.",
  "Tokens per second": "Learner: response tokens consumed per second of learning. Base, adaptive: tokens sampled per second by the generators of that role.",
  "Step time": "What the learner spends a step on. Much waiting: the generators are too slow. None: the learner is.",
  "Busy generators": "Share of time in which generators have rollouts in flight.",
};

/** @type {Record<string, string>} */
export const LINE_NOTES = {
  entropy_target: "The value in force that you or the configuration set. Shaded: 10 % around it.",
  reference:
    "What the control law steers entropy towards at this step. It is the entropy target, approached by a ramp: after a change of the target, or from a start far away, it moves a little each step, and then it equals the target.",
};
