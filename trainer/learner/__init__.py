"""The learner: DeepSpeed ZeRO engines that apply the SCOPE loss to a step's rollouts in micro-batches."""
