"""The SCOPE loss of one learner step: the objective, aggregation over tokens, and the step's plan of weights."""
