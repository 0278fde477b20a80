"""From the words of registers to exact values and back; pure."""
