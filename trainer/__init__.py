"""The learning algorithms: policy, loss, learner, control laws, tasks, configuration. Independent of `services`."""
