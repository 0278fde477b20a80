"""The steps between versions of the office's tables. A step that was released is never changed."""
