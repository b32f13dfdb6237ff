"""The policy: loading, forward passes, packing of rollouts, adapters, gathering, sampling."""
