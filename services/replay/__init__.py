"""The replay queue on Redis Streams, between generators and learner: producer, consumer, counters, dead letters."""
