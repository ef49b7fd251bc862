"""The Kafka edge: from records to one write per subject."""
