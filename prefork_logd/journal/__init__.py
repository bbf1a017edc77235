"""The commit point: what is safely in the outputs, and how far each worker's batches have come."""
