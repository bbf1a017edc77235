"""The processes that send records to stores."""
