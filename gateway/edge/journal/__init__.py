"""The journal: one durable file of entries, watermarks, gaps and cursors."""
