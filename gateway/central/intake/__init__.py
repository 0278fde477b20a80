"""What arrives at central: batches, statuses and balances, checked and stored; what cannot be read is salvaged."""
