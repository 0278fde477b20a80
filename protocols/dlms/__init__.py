"""A DLMS/COSEM stack: sans-IO core, thin asyncio shell."""
