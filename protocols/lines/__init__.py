"""Lines: TCP, serial, RTU over TCP, UDP, optical probes, and lines that write a trace."""
