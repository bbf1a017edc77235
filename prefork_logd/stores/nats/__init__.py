"""The store that publishes to NATS JetStream."""
