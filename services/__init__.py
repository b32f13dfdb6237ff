"""The running system: generators, replay queue, learner loop, driver, control plane.

Imports `trainer`, never the reverse.
"""
