"""The steps between versions of the ledger's tables. A step that was released is never changed."""
