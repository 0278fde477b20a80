"""The client's core without I/O: connection, association, transaction, and what the outcomes mean."""
