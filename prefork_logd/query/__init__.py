"""What to look for among stored records, whichever store or file they are in."""
