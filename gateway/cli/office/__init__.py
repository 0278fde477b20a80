"""Commands of the office, on central's files: directory, rekey, contacts, unattributed, explain, readings."""
