"""Telling people their new number: slips for meter readers, what they tick off, and the campaign over all channels."""
