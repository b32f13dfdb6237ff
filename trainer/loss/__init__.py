"""The SCOPE loss of one step: objective, aggregation over tokens, and the plan of its parts."""
