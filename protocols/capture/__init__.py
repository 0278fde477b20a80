"""Files of captured traffic: pcap, pcapng and traces, as conversations."""
