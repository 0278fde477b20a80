"""Profile buffers: layouts, columns, rows and their stamps, decoded column by column."""
