"""What the operator is notified of (BATCHCALL_NOTIFY_URL): kept until it is delivered, by whatever process runs."""
