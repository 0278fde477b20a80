"""Which requests to send and what they cost on the wire, by what is known of one meter; pure."""
