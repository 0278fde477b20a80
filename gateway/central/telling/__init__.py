"""Telling people by SMS: templates registered with the operators (DLT), a durable queue, and the ways to a provider."""
