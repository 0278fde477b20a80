"""Who may change what at central, and the record of it: accounts, tokens, change sets, the audit trail."""
