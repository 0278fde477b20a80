"""InfluxDB and VictoriaMetrics: points written, read back, and moved when an account changes."""
