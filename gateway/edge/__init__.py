"""The edge role: polls meters, stamps, journals and delivers."""
