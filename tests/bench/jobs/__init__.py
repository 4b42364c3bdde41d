"""A whole image job, from the queue to the store: our worker processes against BullMQ, sharp and the AWS SDK."""
